"""From an image to the versions that hold it, the models of those, and the tasks whose champions they were."""

import pytest
from PIL import Image

from flywheel.lineage.image import explain_image
from flywheel.lineage.node import LineageError, State, troubles
from flywheel.records import Side
from tests.flywheel.lineage.conftest import Home, image_on


def explained(home: Home, image: str):
    return explain_image(image, home.ledger, home.predictions, home.paths)


@pytest.mark.parametrize(("side", "role"), [(Side.FROZEN, "judged"), (Side.TRAIN, "learned by")])
def test_an_image_leads_to_its_side_its_models_and_their_tasks(home, side, role):
    champion = home.promoted("first")
    other = home.model("second")
    identity, file = image_on(home, side)
    root = explained(home, str(file))
    assert (root.id, root.check.state) == (identity, State.WHOLE)
    (version,) = root.children
    assert (version.relation, version.id) == ("in", home.version.id)
    label = file.parent.name
    assert version.told == f"{side} side, as “{label}”: {label}/{file.name}"
    assert {(each.relation, each.id) for each in version.children} == {(role, champion), (role, other)}
    crowns = {each.id: [crown.id for crown in each.children] for each in version.children}
    assert crowns == {champion: [home.version.task_id], other: []}
    assert troubles(root) == []


def test_an_image_is_known_by_its_id_its_first_digits_and_its_pixels(home, frozen_image, tmp_path):
    identity, file = frozen_image
    Image.open(file).save(tmp_path / "elsewhere.bmp")
    for name in (identity, identity[:8], str(tmp_path / "elsewhere.bmp")):
        assert explained(home, name).id == identity


def test_what_was_left_out_as_a_copy_says_of_what(home):
    copy = home.paths.raw("pets") / "cat" / "copy.png"
    relations = {each.relation: each.told for each in explained(home, str(copy)).children}
    assert "left out of" in relations
    assert "copy" in relations["left out of"]


def test_changed_rows_and_lost_originals_are_said(home, frozen_image):
    identity, _ = frozen_image
    for pack in home.paths.images.glob("pack-*.bin"):
        pack.unlink()
    manifest = home.version.folder / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"cat"', '"cot"'), encoding="utf-8")
    assert [(each.kind, each.check.state) for each in troubles(explained(home, identity))] == [
        ("image", State.MISSING),
        ("dataset version", State.CHANGED),
    ]


@pytest.mark.parametrize("image", ["no-such-file.png", "0123", "0" * 64, ""])
def test_what_no_version_knows_is_refused_with_what_was_expected(home, image):
    with pytest.raises(LineageError, match="image"):
        explained(home, image)


def test_an_image_of_nobody_is_refused(home, tmp_path):
    Image.new("RGB", (9, 9), "blue").save(tmp_path / "blue.png")
    with pytest.raises(LineageError, match="no dataset version and no prediction knows it"):
        explained(home, str(tmp_path / "blue.png"))

"""A version for a retraining: the frozen side stays, labelled images stand on three sides, old ones are replayed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flywheel.data.extension import extend_version
from flywheel.data.index import build_index
from flywheel.data.originals import original_bytes
from flywheel.data.versions import VersionError, build_version, check_files, earlier_sides, open_arrays, version_table
from flywheel.paths import Paths
from flywheel.records import DatasetVersion, Side, Source
from flywheel.settings import DataParameters, ExtensionParameters

Make = Callable[..., Path]
SIZE = 16


@pytest.fixture
def base(tmp_path: Path, tree: Make) -> DatasetVersion:
    folder = tree()
    index = build_index(Source("first", folder, "first"), Paths(tmp_path))
    return build_version(index, (), DataParameters(subset=40, size=SIZE), Paths(tmp_path))


def labelled(folder: Path, classes: tuple[str, ...], count: int = 30, seed: int = 7) -> Path:
    random = np.random.default_rng(seed)
    for label in classes:
        (folder / label).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (24, 24, 3), np.uint8)
            Image.fromarray(pixels).save(folder / label / f"prediction-{number}.png")
    return folder


def extend(base: DatasetVersion, folder: Path, home: Path, **changed: object) -> DatasetVersion:
    index = build_index(Source("labels", folder, "labels"), Paths(home))
    return extend_version(base, index, (), ExtensionParameters.model_validate(changed), Paths(home))


def test_the_frozen_side_stays_and_labelled_images_stand_on_three_sides(base, tmp_path):
    made = extend(base, labelled(tmp_path / "new", base.classes), tmp_path, replay=0.5)
    check_files(made)
    before, after = version_table(base), version_table(made)
    assert made.evaluation_set_id == base.evaluation_set_id
    assert set(before[before["side"] == "frozen"]["image_id"]) == set(after[after["side"] == "frozen"]["image_id"])
    fresh = after[after["path"].str.contains("prediction-")]
    assert set(fresh["side"]) == {"train", "reference", "drifted"}
    assert (len(fresh), made.counts["drifted"]) == (60, int((fresh["side"] == "drifted").sum()))
    assert set(after[after["side"] == "reference"]["image_id"]) <= set(fresh["image_id"])
    old = after[(after["side"] == "train") & ~after["image_id"].isin(fresh["image_id"])]
    learned = fresh[fresh["side"] == "train"]
    assert len(old) == round(0.5 * len(learned))
    assert set(old["image_id"]) <= set(before[before["side"] == "train"]["image_id"])
    assert (made.extends, made.drifted_set_id[:8]) == (base.id, "evalset-")


def test_what_is_packed_is_the_image(base, tmp_path):
    made = extend(base, labelled(tmp_path / "new", base.classes), tmp_path)
    arrays, table = open_arrays(made), version_table(made)
    old = {str(name): image for name, image in zip(open_arrays(base).ids, open_arrays(base).images, strict=True)}
    for row, name in enumerate(table["image_id"]):
        if name in old:
            assert np.array_equal(arrays.images[row], old[name])
        else:
            sent = Path(tmp_path / "new" / table.loc[row, "path"]).read_bytes()
            assert original_bytes(Paths(tmp_path), name) == sent


def test_the_same_labels_are_the_same_version(base, tmp_path):
    folder = labelled(tmp_path / "new", base.classes)
    first = extend(base, folder, tmp_path)
    shutil.rmtree(first.folder)
    assert extend(base, folder, tmp_path).id == first.id


def test_a_copy_of_a_frozen_image_is_left_out(base, tmp_path):
    folder = labelled(tmp_path / "new", base.classes)
    table = version_table(base)
    frozen = table[table["side"] == "frozen"].iloc[0]
    (folder / frozen["label"] / "stolen.png").write_bytes(original_bytes(Paths(tmp_path), frozen["image_id"]))
    made = extend(base, folder, tmp_path)
    left = (made.folder / "left_out.csv").read_text(encoding="utf-8")
    assert "stolen.png" in left
    assert "a copy of an image on the frozen side" in left
    assert not version_table(made)["path"].str.contains("stolen").any()


def test_what_a_model_learned_from_judges_nobody(base, tmp_path):
    """Traffic may bring training images again; under any draw they stand where they were learned from."""
    folder = labelled(tmp_path / "new", base.classes)
    table = version_table(base)
    learned = table[table["side"] == "train"]
    for number, row in enumerate(learned.itertuples()):
        (folder / row.label / f"again-{number}.png").write_bytes(original_bytes(Paths(tmp_path), row.image_id))
    after = version_table(extend(base, folder, tmp_path))
    assert set(after[after["image_id"].isin(learned["image_id"])]["side"]) == {"train"}


def test_an_image_of_two_labels_teaches_nothing(base, tmp_path):
    folder = labelled(tmp_path / "new", base.classes)
    one, other = base.classes[:2]
    shutil.copyfile(folder / one / "prediction-0.png", folder / other / "prediction-x.png")
    made = extend(base, folder, tmp_path)
    assert not version_table(made)["path"].str.contains("prediction-x").any()
    assert "other labels too" in (made.folder / "left_out.csv").read_text(encoding="utf-8")


def test_another_tasks_class_is_refused(base, tmp_path):
    with pytest.raises(VersionError, match="'zebra' found"):
        extend(base, labelled(tmp_path / "new", (*base.classes, "zebra")), tmp_path)


def test_later_versions_know_what_was_judged_and_what_is_frozen(base, tmp_path):
    made = extend(base, labelled(tmp_path / "new", base.classes), tmp_path)
    sides, after = earlier_sides(Paths(tmp_path), base.task_id), version_table(made)
    drifted = after[after["side"] == "drifted"]["image_id"]
    assert {sides[name] for name in drifted} == {Side.TRAIN}
    before = version_table(base)
    for side in ("frozen", "reference"):
        assert {sides[name] for name in before[before["side"] == side]["image_id"]} == {Side(side)}

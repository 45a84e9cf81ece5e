"""The way of a model is walked on what lies on disk, and whatever was changed there is said where it stands."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from flywheel.identity import digest_of_file
from flywheel.lineage.model import explain_model
from flywheel.lineage.node import LineageError, Node, State, all_nodes, troubles
from flywheel.records import Verdict
from tests.flywheel.lineage.conftest import Home


def explained(home: Home, model_id: str) -> Node:
    return explain_model(model_id, home.ledger, home.paths)


def things(node: Node) -> list[tuple[str, str]]:
    return [(each.kind, each.id) for each in all_nodes(node)]


def test_a_champion_is_walked_back_to_its_source(home):
    model = home.promoted("first")
    version, gate = home.version, home.gate(model)
    root = explained(home, model)
    assert things(root) == [
        ("model", model),
        ("task", version.task_id),
        ("Bento", home.tag(model)),
        ("gate", gate.id),
        ("evaluation", gate.inputs["evaluation_id"]),
        ("dataset version", version.id),
        ("suite", "splits-0"),
        ("index", version.index_id),
        ("suite", "images-0"),
        ("source", "pets"),
    ]
    assert {each.check.state for each in all_nodes(root)} == {State.WHOLE}
    assert "since 2026-03-01 12:00 UTC, until now; promotion dec-" in root.children[0].told
    assert root.children[-1].children[-1].children[-1].told == "data/raw/pets"


def test_a_model_that_was_never_champion_has_no_hash_of_its_validations_on_record(home):
    model = home.model("refused", Verdict.FAIL)
    root = explained(home, model)
    assert [each.kind for each in root.children] == ["Bento", "gate", "dataset version"]
    assert root.children[0].relation == "packaged as"
    unchecked = [each for each in all_nodes(root) if each.check.state is State.UNCHECKED]
    assert [each.kind for each in unchecked] == ["suite", "suite"]
    assert troubles(root) == []


def test_each_time_as_champion_is_told_with_its_end(home):
    first = home.promoted("first")
    home.promoted("second")
    (crown,) = (each for each in explained(home, first).children if each.kind == "task")
    assert "until 2026-03-01 12:00 UTC" in crown.told


def flip(path: Path) -> None:
    """One bit of the middle byte, and the times as they were."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def repaint(path: Path) -> None:
    Image.new("RGB", (12, 12), "red").save(path)


def weights_and_manifests(home: Home, model: str) -> None:
    """Somebody who knows the format: new weights, with hashes that fit, in the folder and in the Bento."""
    for folder in (home.paths.model(model), home.paths.bentoml / "models" / "classifier" / model[6:]):
        (folder / "weights.safetensors").write_bytes(b"others")
        document = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        sha256 = digest_of_file(folder / "weights.safetensors")
        document["files"]["weights.safetensors"] = document["model"]["weights_sha256"] = sha256
        (folder / "model.json").write_text(json.dumps(document), encoding="utf-8")


def pixels_and_manifest(home: Home, _: str, version: str = "") -> None:
    """The same for the packed images, which are not in the version's name."""
    folder = home.paths.dataset(version) if version else home.version.folder
    flip(folder / "images.npy")
    document = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    document["files"]["images.npy"]["sha256"] = digest_of_file(folder / "images.npy")
    (folder / "manifest.json").write_text(json.dumps(document), encoding="utf-8")


def decision(home: Home, model: str) -> None:
    with closing(sqlite3.connect(home.paths.ledger)) as connection, connection:
        connection.execute("DROP TRIGGER decisions_no_update")
        connection.execute("UPDATE decisions SET reason = 'Splendid.' WHERE kind = 'gate'")


def of(home: Home, model: str) -> dict[str, Path]:
    """The file of each artifact that somebody may change."""
    paths, bento = home.paths, home.paths.bentoml / "bentos" / home.tag(model).replace(":", "/")
    return {
        "weights": paths.model(model) / "weights.safetensors",
        "service": bento / "src" / "bentos" / "classifier" / "service.py",
        "pins": bento / "bento.yaml",
        "packaged weights": paths.bentoml / "models" / "classifier" / model[6:] / "weights.safetensors",
        "answers": paths.report(home.gate(model).inputs["evaluation_id"]) / "logits.parquet",
        "rows": home.version.folder / "rows.parquet",
        "images": home.version.folder / "images.npy",
        "index": paths.index(home.version.index_id) / "index.parquet",
        "validation": next(paths.validations.glob("*-splits-0.json")),
        "source": next(paths.raw("pets").rglob("*.png")),
    }


def change_pin(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace("torch==", "torch>="), encoding="utf-8")


def unmeet(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace('"success":true', '"success":false'), encoding="utf-8")


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "weights": (flip, "model"),
    "service": (flip, "Bento"),
    "pins": (change_pin, "Bento"),
    "packaged weights": (flip, "Bento"),
    "answers": (flip, "evaluation"),
    "rows": (flip, "dataset version"),
    "images": (flip, "dataset version"),
    "index": (flip, "index"),
    "validation": (unmeet, "suite"),
    "source": (repaint, "source"),
}


@pytest.mark.parametrize("artifact", CHANGES)
def test_a_changed_artifact_is_said_where_it_stands(home, artifact):
    model = home.promoted("first")
    change, kind = CHANGES[artifact]
    change(of(home, model)[artifact])
    wrong = troubles(explained(home, model))
    assert [(each.kind, each.check.state) for each in wrong] == [(kind, State.CHANGED)]
    assert wrong[0].check.told


@pytest.mark.parametrize(
    ("change", "kinds"),
    [(weights_and_manifests, ["model"]), (pixels_and_manifest, ["dataset version"]), (decision, ["gate"])],
)
def test_a_change_that_fits_its_own_manifest_does_not_fit_the_ledger(home, change, kinds):
    model = home.promoted("first")
    change(home, model)
    assert [each.kind for each in troubles(explained(home, model))] == kinds


def test_a_retrained_model_is_walked_back_through_the_version_that_its_own_extends(home):
    base, extended = home.version, home.extend()
    assert extended.extends == base.id
    model = home.promoted("retrained")
    root = explained(home, model)
    assert [each.id for each in all_nodes(root) if each.kind == "dataset version"] == [extended.id, base.id]
    assert troubles(root) == []
    pixels_and_manifest(home, model, base.id)
    assert [each.id for each in troubles(explained(home, model))] == [base.id]


@pytest.mark.parametrize(
    ("kind", "gone"),
    [
        ("Bento", lambda home, model: home.paths.bentoml / "bentos" / "classifier"),
        ("evaluation", lambda home, model: next(home.paths.reports.glob("eval-*"))),
        ("dataset version", lambda home, model: home.version.folder),
        ("index", lambda home, model: home.paths.index(home.version.index_id)),
        ("source", lambda home, model: home.paths.raw("pets")),
        ("suite", lambda home, model: home.paths.validations),
        ("model", lambda home, model: home.paths.model(model)),
    ],
)
def test_what_is_gone_is_said_and_the_rest_is_still_walked(home, kind, gone):
    model = home.promoted("first")
    shutil.rmtree(gone(home, model))
    wrong = troubles(explained(home, model))
    assert {each.kind for each in wrong} == {kind}
    assert {each.check.state for each in wrong} == {State.MISSING}


def test_a_source_that_was_only_copied_is_known_by_its_pixels(home):
    model = home.promoted("first")
    for file in home.paths.raw("pets").rglob("*.png"):
        os.utime(file, (0, 0))
    root = explained(home, model)
    source = next(each for each in all_nodes(root) if each.kind == "source")
    assert (source.check.state, source.check.told) == (State.WHOLE, "the pixels of all 81 images")


def test_an_unknown_model_is_refused(home):
    with pytest.raises(LineageError, match="no such model"):
        explained(home, "model-unknown")

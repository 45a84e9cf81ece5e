"""The record of robustness in an evaluation's folder: made once, trusted only where it is whole."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flywheel.data.versions import open_arrays
from flywheel.evaluation.evaluate import evaluate
from flywheel.evaluation.record import EvaluationError, evaluation_id, read_evaluation
from flywheel.evaluation.robustness import (
    MANIFEST,
    Robustness,
    RobustnessError,
    evaluate_robustness,
    recorded_robustness,
    robustness_difference,
    write_robustness,
)
from flywheel.identity import digest
from flywheel.paths import Paths
from flywheel.records import Side, from_json, to_json

MODEL = "model-1"


@pytest.fixture
def paths(home, tmp_path) -> Paths:
    """A home of its own for reports; the originals stay where they are."""
    (tmp_path / "data" / "processed").mkdir(parents=True)
    (tmp_path / "data" / "processed" / "images").symlink_to(Paths(home).images, target_is_directory=True)
    return Paths(tmp_path)


@pytest.fixture
def folder(version, paths, brightness_model) -> Path:
    """Of an evaluation with its robustness."""
    model = brightness_model(version=version)
    evaluation = evaluate(model, version, paths)
    evaluate_robustness(model, version, paths)
    return evaluation.folder


def test_it_is_measured_once_and_leaves_the_evaluation_as_it_was(version, paths, brightness_model):
    model = brightness_model(version=version)
    evaluation = evaluate(model, version, paths)
    before = {path.name: path.read_bytes() for path in evaluation.folder.iterdir()}
    found = evaluate_robustness(model, version, paths)
    assert found.images == len(open_arrays(version).side(Side.FROZEN))
    after = {path.name: path.read_bytes() for path in evaluation.folder.iterdir()}
    assert set(after) == set(before) | {MANIFEST}
    assert all(after[name] == content for name, content in before.items())
    assert read_evaluation(evaluation.folder) == evaluation
    calls = len(model.seen)
    assert evaluate_robustness(model, version, paths) == found == recorded_robustness(evaluation.folder, MODEL)
    assert len(model.seen) == calls


def test_the_record_goes_to_json_and_back(folder):
    found = recorded_robustness(folder, MODEL)
    assert from_json(Robustness, to_json(found)) == found


def spoil(folder: Path, change) -> None:
    document = json.loads((folder / MANIFEST).read_text())
    change(document)
    (folder / MANIFEST).write_text(json.dumps(document))


def resealed(change):
    """A change whose hash is right: what another version, or a careless hand, would leave."""

    def apply(document):
        change(document)
        del document["sha256"]
        document["sha256"] = digest(document)

    return apply


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d["robustness"]["conditions"][3].update(outcomes="00" * 99),
        lambda d: d["robustness"].update(images=7),
        lambda d: d["robustness"].update(seconds=float("nan")),
        lambda d: d.update(sha256="00" * 32),
        lambda d: d.pop("robustness"),
        lambda d: d.pop("sha256"),
        lambda d: d.clear(),
        resealed(lambda d: d["settings"].update(format=0)),
        resealed(lambda d: d["settings"]["strengths"].update(blur=[1, 2, 3])),
        resealed(lambda d: d.update(evaluation_id="eval-another")),
        resealed(lambda d: d["robustness"]["conditions"][3].update(right=1)),
        resealed(lambda d: d["robustness"]["conditions"][3].update(outcomes="zz")),
        resealed(lambda d: d["robustness"]["conditions"][3].update(outcomes="")),
        resealed(lambda d: d["robustness"]["conditions"].pop()),
        resealed(lambda d: d["robustness"].update(images=0)),
        resealed(lambda d: d["robustness"].update(images="many")),
        resealed(lambda d: d.update(robustness=None)),
        resealed(lambda d: d["robustness"].update(model_id="model-2")),
    ],
)
def test_a_damaged_record_isnt_trusted_but_made_again(folder, version, paths, damage, brightness_model):
    whole = recorded_robustness(folder, MODEL)
    spoil(folder, damage)
    with pytest.raises(RobustnessError, match=MANIFEST):
        recorded_robustness(folder, MODEL)
    again = evaluate_robustness(brightness_model(version=version), version, paths)
    assert replace(again, seconds=0) == replace(whole, seconds=0)
    assert recorded_robustness(folder, MODEL) == again


def test_a_record_that_is_missing_cut_off_or_moved_is_an_error(folder, tmp_path):
    moved = tmp_path / "eval-another"
    folder.rename(moved)
    with pytest.raises(RobustnessError, match="another evaluation"):
        recorded_robustness(moved, MODEL)
    path = moved / MANIFEST
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RobustnessError, match="none found"):
        recorded_robustness(moved, MODEL)
    path.unlink()
    with pytest.raises(EvaluationError, match="none found"):
        recorded_robustness(moved, MODEL)


def test_a_record_of_another_model_is_told_by_its_name(folder):
    with pytest.raises(RobustnessError, match=r"model-1's, model-2's was expected"):
        recorded_robustness(folder, "model-2")


def test_without_an_evaluation_there_is_no_place_for_it(version, paths, tmp_path, brightness_model, robustness_of):
    with pytest.raises(RobustnessError, match="Evaluate the model first"):
        evaluate_robustness(brightness_model(version=version), version, paths)
    with pytest.raises(RobustnessError, match="Evaluate the model first"):
        write_robustness(tmp_path / "eval-1", robustness_of(np.ones((21, 4), bool)))


def test_a_champion_of_another_size_is_corrupted_at_its_own(version, paths, folder, brightness_model):
    smaller = brightness_model("model-2", size=8, version=version)
    (paths.report(evaluation_id("model-2", version.evaluation_set_id))).mkdir()
    found = evaluate_robustness(smaller, version, paths)
    assert found.size == 8
    assert abs(robustness_difference(found, recorded_robustness(folder, MODEL)).value) < 0.1

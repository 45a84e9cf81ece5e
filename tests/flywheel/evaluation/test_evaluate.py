"""Measuring on a real dataset version of tiny generated images, with a tiny real classifier."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from flywheel.data.versions import load_version, open_arrays
from flywheel.evaluation.evaluate import evaluate, recorded_evaluation
from flywheel.evaluation.metrics import MetricsError
from flywheel.evaluation.record import EvaluationError, read_evaluation, read_predictions
from flywheel.paths import Paths
from flywheel.records import Side


@pytest.fixture
def paths(version, tmp_path) -> Paths:
    """A home of its own for reports; the version stays where it was made."""
    return Paths(tmp_path)


def ticking():
    times = iter([10.0, 12.0])
    return lambda: next(times)


def test_the_frozen_side_and_nothing_else_is_measured(version, paths, brightness_model):
    evaluation = evaluate(brightness_model(version=version), version, paths, clock=ticking())
    arrays = open_arrays(version)
    frozen = arrays.side(Side.FROZEN)
    answers = read_predictions(evaluation.folder)
    assert sorted(answers.ids.tolist()) == sorted(arrays.ids[frozen].tolist())
    assert evaluation.images == len(frozen) == version.counts["frozen"]
    assert evaluation.images_per_second == len(frozen) / 2
    assert (evaluation.model_id, evaluation.evaluation_set_id) == ("model-1", version.evaluation_set_id)
    assert evaluation.folder == paths.report(evaluation.id)


def test_the_answers_belong_to_their_images(version, paths, brightness_model):
    evaluation = evaluate(brightness_model(version=version), version, paths)
    arrays = open_arrays(version)
    answers = read_predictions(evaluation.folder)
    row_of = {image: row for row, image in enumerate(arrays.ids.tolist())}
    for image, label, logits in zip(answers.ids, answers.labels, answers.logits, strict=True):
        row = row_of[str(image)]
        assert label == arrays.labels[row]
        assert logits[0] == pytest.approx((arrays.images[row].mean() - 125) / 20, abs=1e-4)
    assert evaluation.top1.value == (answers.logits.argmax(axis=1) == answers.labels).mean()
    assert evaluation.top1.value > 0.9


def test_what_is_recorded_is_not_computed_again(version, paths, brightness_model):
    first = evaluate(brightness_model(version=version), version, paths)
    again = brightness_model(version=version)
    assert evaluate(again, version, paths) == first
    assert again.seen == []
    assert recorded_evaluation("model-1", version, paths) == first
    assert recorded_evaluation("model-2", version, paths) is None


def test_a_damaged_record_is_made_again(version, paths, brightness_model):
    first = evaluate(brightness_model(version=version), version, paths, clock=ticking())
    (first.folder / "logits.parquet").write_bytes(b"PAR1")
    again = brightness_model(version=version)
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    made = evaluate(again, version, paths, clock=ticking(), now=lambda: noon)
    assert replace(made, remade="") == first
    assert made.remade.startswith("changed on disk, measured again 2026-03-01 12:00 UTC (")
    assert sum(again.seen) == first.images
    assert read_evaluation(first.folder) == made


def test_progress_ends_at_the_last_image(version, paths, brightness_model):
    heard = []
    evaluate(brightness_model(version=version), version, paths, progress=lambda *event: heard.append(event))
    assert heard[-1] == ("evaluate", version.counts["frozen"], version.counts["frozen"])


def test_a_model_of_another_size_is_measured_on_the_original_images(version, home, brightness_model):
    small = brightness_model("model-small", size=8, version=version)
    evaluation = evaluate(small, version, Paths(home))
    assert evaluation.images == version.counts["frozen"]
    assert evaluation.top1.value > 0.9


def test_a_model_of_another_task_is_refused(version, paths, brightness_model):
    with pytest.raises(EvaluationError, match="own task's versions"):
        evaluate(brightness_model(version=version, classes=("bright", "dim")), version, paths)


def test_a_model_that_answers_nan_leaves_no_record(version, paths, brightness_model):
    with pytest.raises(MetricsError, match="NaN"):
        evaluate(brightness_model(version=version, threshold=float("nan")), version, paths)
    assert not paths.reports.exists()


def test_a_version_without_a_frozen_side_is_refused(version, paths, monkeypatch, brightness_model):
    arrays = open_arrays(version)
    thawed = replace(arrays, sides=np.full(len(arrays.sides), "train"))
    monkeypatch.setattr("flywheel.evaluation.evaluate.open_arrays", lambda _: thawed)
    with pytest.raises(EvaluationError, match="frozen side is empty"):
        evaluate(brightness_model(version=version), version, paths)


def test_the_version_read_again_has_the_same_evaluation(version, paths, brightness_model):
    evaluation = evaluate(brightness_model(version=version), version, paths)
    assert recorded_evaluation("model-1", load_version(version.folder), paths) == evaluation

"""An evaluation's folder is whole or not there, and says so when it was touched."""

from pathlib import Path

import numpy as np
import pytest

from flywheel.evaluation.metrics import measure
from flywheel.evaluation.record import (
    EvaluationError,
    Predictions,
    evaluation_id,
    read_evaluation,
    read_predictions,
    write_record,
)
from flywheel.identity import name_of
from flywheel.records import Evaluation

CLASSES = ("ant", "bee", "cat")
PREDICTIONS = Predictions(
    ids=np.array(["ccc", "aaa", "bbb"]),
    labels=np.array([2, 0, 1]),
    logits=np.array([[0.0, 0.0, 2.0], [1.5, 0.0, 0.0], [0.0, 0.0, 0.25]], dtype=np.float32),
)


def evaluation_in(folder: Path) -> Evaluation:
    measured = measure(PREDICTIONS.logits, PREDICTIONS.labels, CLASSES)
    return Evaluation(
        id=folder.name,
        folder=folder,
        model_id="model-1",
        dataset_id="ds-1",
        evaluation_set_id="evalset-1",
        role="frozen",
        images=measured.images,
        top1=measured.top1,
        majority_rate=measured.majority_rate,
        classes=measured.classes,
        confusion=measured.confusion,
        ece=measured.ece,
        nll=measured.nll,
        images_per_second=10.0,
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "reports" / "eval-1"


def test_an_evaluation_comes_back_as_it_was_written(folder):
    written = write_record(evaluation_in(folder), PREDICTIONS)
    assert read_evaluation(folder) == written
    assert len(written.correct_sha256) == 64
    assert sorted(path.name for path in folder.parent.iterdir()) == ["eval-1"]


def test_answers_are_kept_exactly_and_sorted_by_image_id(folder):
    write_record(evaluation_in(folder), PREDICTIONS)
    found = read_predictions(folder)
    assert found.ids.tolist() == ["aaa", "bbb", "ccc"]
    assert found.labels.tolist() == [0, 1, 2]
    assert found.logits.tolist() == [[1.5, 0.0, 0.0], [0.0, 0.0, 0.25], [0.0, 0.0, 2.0]]
    assert found.logits.dtype == np.float32


def test_the_same_answers_in_another_order_have_the_same_hash(folder):
    order = np.array([1, 2, 0])
    turned = Predictions(PREDICTIONS.ids[order], PREDICTIONS.labels[order], PREDICTIONS.logits[order])
    first = write_record(evaluation_in(folder), PREDICTIONS)
    second = write_record(evaluation_in(folder.with_name("eval-2")), turned)
    assert first.correct_sha256 == second.correct_sha256


def test_a_moved_project_finds_its_evaluations(folder, tmp_path):
    write_record(evaluation_in(folder), PREDICTIONS)
    moved = folder.rename(tmp_path / "eval-1")
    assert read_evaluation(moved).folder == moved


@pytest.mark.parametrize("file", ["evaluation.json", "logits.parquet"])
def test_a_record_that_lacks_a_file_is_no_record(folder, file):
    write_record(evaluation_in(folder), PREDICTIONS)
    (folder / file).unlink()
    with pytest.raises(EvaluationError, match="valuate again"):
        read_evaluation(folder)


def test_touched_answers_are_noticed(folder):
    write_record(evaluation_in(folder), PREDICTIONS)
    with (folder / "logits.parquet").open("r+b") as file:
        file.seek(60)
        file.write(b"\x00\x01\x02")
    with pytest.raises(EvaluationError, match="SHA-256"):
        read_evaluation(folder)


@pytest.mark.parametrize("manifest", ["", "{}", "not json", '{"id": 3}'])
def test_a_broken_manifest_is_named(folder, manifest):
    write_record(evaluation_in(folder), PREDICTIONS)
    (folder / "evaluation.json").write_text(manifest)
    with pytest.raises(EvaluationError, match="not a readable manifest"):
        read_evaluation(folder)


def test_a_valid_record_is_kept_and_a_broken_one_replaced(folder):
    first = write_record(evaluation_in(folder), PREDICTIONS)
    (folder / "report.html").write_text("a page")
    assert write_record(evaluation_in(folder), PREDICTIONS) == first
    assert (folder / "report.html").exists()
    (folder / "logits.parquet").unlink()
    write_record(evaluation_in(folder), PREDICTIONS)
    assert read_evaluation(folder) == first
    assert sorted(path.name for path in folder.parent.iterdir()) == ["eval-1"]


def test_a_crash_while_writing_leaves_nothing(folder, monkeypatch):
    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr("flywheel.evaluation.record.to_json", fails)
    with pytest.raises(OSError, match="disk full"):
        write_record(evaluation_in(folder), PREDICTIONS)
    assert list(folder.parent.iterdir()) == []


def test_missing_answers_are_named(tmp_path):
    with pytest.raises(EvaluationError, match="no per-image answers"):
        read_predictions(tmp_path)


def test_an_evaluations_name_holds_model_set_and_metric_settings():
    settings = {"interval": "wilson", "confidence": 0.95, "ece_bins": 15, "formulas": 1}
    content = {"model": "model-1", "evaluation_set": "evalset-1", "metrics": settings}
    assert evaluation_id("model-1", "evalset-1") == name_of("eval", content)
    assert evaluation_id("model-2", "evalset-1") != evaluation_id("model-1", "evalset-1")

"""The page is whole, holds only what it was given, and opens without a network."""

import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from flywheel.evaluation.gates import judge
from flywheel.evaluation.metrics import measure
from flywheel.evaluation.record import EvaluationError
from flywheel.figures import confusion
from flywheel.policies import GatePolicy
from flywheel.records import (
    DatasetVersion,
    Evaluation,
    ExpectationResult,
    ImageIndex,
    PreparedData,
    Preprocessing,
    Severity,
    Source,
    TrainedModel,
    ValidationResult,
)
from flywheel.report.contents import ReportContents, changed, read_contents
from flywheel.report.page import write_report
from flywheel.settings import DataParameters, Recipe, TrainingParameters
from tests.flywheel.evaluation.evidence_samples import first_model
from tests.flywheel.report.reader import Reader

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOSTILE = "<script>alert('cat')</script>"


def contents_of(folder: Path, classes: tuple[str, ...]) -> ReportContents:
    rng = np.random.default_rng(0)
    labels = np.arange(20 * len(classes)) % len(classes)
    logits = rng.normal(size=(len(labels), len(classes))).astype(np.float32)
    logits[np.arange(len(labels)), labels] += 4
    measured = measure(logits, labels, classes)
    evaluation = Evaluation(
        id="eval-1",
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
        images_per_second=1234.0,
    )
    source = Source("pets", folder, "/images of pets", "chosen by hand")
    dataset = DatasetVersion(
        "ds-1",
        folder,
        "pets",
        "idx-1",
        classes,
        {"train": 4321, "frozen": len(labels)},
        32,
        "bicubic",
        "evalset-1",
        7,
        5,
    )
    results = (
        ExpectationResult(
            "expect_a",
            "brightness",
            "Bright enough",
            Severity.WARNING,
            False,
            "3 too dark",
            3,
            (),
            ("train/cat/0001.jpg",),
        ),
        ExpectationResult("expect_b", "table", "There are images", Severity.CRITICAL, True, "100", 0),
    )
    model = TrainedModel(
        "model-1",
        folder,
        "ds-1",
        "task-1",
        "airbench_small",
        classes,
        Preprocessing(32, "bicubic", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)),
        412_345,
        0,
        1,
        "cpu",
        5,
        4,
        0.71,
        "cd" * 32,
        123.4,
        702.0,
    )
    data = PreparedData(
        source,
        ImageIndex("idx-1", folder, source, 5000, classes),
        dataset,
        (ValidationResult("images", "idx-1", results),),
    )
    evidence = first_model(challenger=evaluation, task_id="task-1")
    gate = judge(evidence, GatePolicy(), {"model_id": evaluation.model_id})
    parameters = TrainingParameters(data=DataParameters(source="/images of pets", subset=None))
    return ReportContents(model, data, evaluation, gate, "classifier:one", parameters)


@pytest.fixture
def figure(tmp_path) -> Path:
    path = tmp_path / "confusion_matrix.png"
    confusion(np.eye(2, dtype=int), ["ant", "bee"]).savefig(path)
    return path


def written(contents: ReportContents, figures=(), champion="No champion.") -> str:
    return write_report(contents, figures, champion=champion, at=NOON).read_text(encoding="utf-8")


def test_the_page_is_self_contained_and_well_formed(tmp_path, figure):
    page = written(contents_of(tmp_path, ("ant", "bee")), [figure])
    reader = Reader(page)
    assert reader.open == []
    assert reader.tags.count("img") == 1
    assert len(reader.loaded) == 1
    assert all(target.startswith("data:image/png;base64,") for target in reader.loaded)
    assert reader.links == []
    assert not re.search(r"https?://|@import|url\(", page)


def test_the_page_tells_the_verdict_the_rules_the_data_and_the_lineage(tmp_path, figure):
    contents = contents_of(tmp_path, ("ant", "bee"))
    page = written(contents, [figure])
    told = [
        "model-1", "ds-1", "idx-1", "evalset-1", "task-1", "eval-1", contents.gate.id, "classifier:one", "4,321",
        "3 too dark", "train/cat/0001.jpg", "1 of 2 held, 1 warned, 0 critical", "chosen by hand",
        f"{contents.evaluation.top1.value:.1%}", "2026-03-01 12:00 UTC", "make visualize MODEL=model-1",
    ]  # fmt: skip
    assert [text for text in told if text not in page] == []
    assert all(rule.rule in page for rule in contents.gate.rules)


def test_the_page_leads_to_the_verdicts_where_there_is_one(tmp_path):
    contents = contents_of(tmp_path, ("ant", "bee"))
    page = write_report(contents, [], champion="", at=NOON, verdict_page="../dec-1/verdict.html").read_text()
    assert Reader(page).links == ["../dec-1/verdict.html"]


def test_a_hostile_class_name_is_text(tmp_path):
    page = written(contents_of(tmp_path, ("ant", HOSTILE)))
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page


def test_many_classes_stand_worst_first_and_the_rest_behind_a_click(tmp_path):
    contents = contents_of(tmp_path, tuple(f"class {number}" for number in range(120)))
    shown, hidden = contents.classes
    assert (len(shown), len(hidden)) == (20, 100)
    assert max(result.recall.value for result in shown) <= min(result.recall.value for result in hidden)
    page = written(contents)
    assert "100 more classes" in page
    assert all(f">class {number}<" in page for number in range(120))


def test_the_page_says_who_is_champion(tmp_path):
    contents = contents_of(tmp_path, ("ant", "bee"))
    assert "<p>model-7 reigns &amp; rules</p>" in written(contents, champion="model-7 reigns & rules")


def test_what_the_page_tells_is_read_back_as_it_was_written(tmp_path):
    contents = contents_of(tmp_path, ("ant", "bee"))
    written(contents)
    assert read_contents(tmp_path, contents.model, contents.evaluation) == contents
    before = (tmp_path / "report.html").read_bytes()
    written(read_contents(tmp_path, contents.model, contents.evaluation))
    assert (tmp_path / "report.html").read_bytes() == before


def test_a_model_without_a_report_is_named(tmp_path):
    contents = contents_of(tmp_path, ("ant", "bee"))
    with pytest.raises(EvaluationError, match="no report on model-1 yet"):
        read_contents(tmp_path / "none", contents.model, contents.evaluation)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(EvaluationError, match="not a readable record"):
        read_contents(tmp_path, contents.model, contents.evaluation)


def test_the_command_holds_every_parameter_that_is_not_its_default():
    parameters = TrainingParameters(
        data=DataParameters(source="/images of pets", subset=None), recipe=Recipe(epochs=3, seed=7), device="cpu"
    )
    assert changed(parameters) == ["SOURCE='/images of pets'", "SUBSET=all", "EPOCHS=3", "SEED=7", "DEVICE=cpu"]
    assert changed(TrainingParameters()) == []

"""The summary names what was taken out and where it is listed; names of files are shown as they are."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from flows.summary import print_data, print_outcome
from flywheel.evaluation.metrics import measure
from flywheel.evaluation.record import Predictions, evaluation_id, write_record
from flywheel.records import (
    DatasetVersion,
    Evaluation,
    ExpectationResult,
    GateVerdict,
    ImageIndex,
    Interval,
    PackagedBento,
    PreparedData,
    Preprocessing,
    Severity,
    Source,
    TrainedModel,
    TrainingOutcome,
    ValidationResult,
    Verdict,
)
from flywheel.settings import Settings, TrainingParameters

PARAMETERS = TrainingParameters.model_validate({"data": {"source": "my photos", "subset": None}})


def prepared(tmp_path: Path, example: str) -> PreparedData:
    source = Source("photos", tmp_path, "photos")
    index = ImageIndex("idx-0123456789ab", tmp_path / "index.parquet", source, 50, ("cat", "dog"))
    finding = ExpectationResult(
        expectation="expect_column_values_to_be_in_set",
        subject="decode_ok",
        description="Every image can be decoded",
        severity=Severity.WARNING,
        success=False,
        observed="1 of 50 rows",
        unexpected_count=1,
        unexpected_rows=(3,),
        examples=(example,),
    )
    version = DatasetVersion(
        id="ds-0123456789ab",
        folder=tmp_path / "ds-0123456789ab",
        source="photos",
        index_id=index.id,
        classes=("cat", "dog"),
        counts={"train": 40, "frozen": 9},
        size=32,
        filter="bicubic",
        evaluation_set_id="evalset-0123456789ab",
        quarantined=1,
        left_out=2,
        left_out_list=tmp_path / "idx-0123456789ab" / "version.csv",
    )
    return PreparedData(source, index, version, (ValidationResult("images", index.id, (finding,)),))


def printed(data: PreparedData, parameters: TrainingParameters = PARAMETERS) -> str:
    out = io.StringIO()
    print_data(Console(file=out, width=240), data, parameters, 65.0)
    return out.getvalue()


def test_what_was_taken_out_is_counted_and_its_list_named(tmp_path: Path) -> None:
    said = printed(prepared(tmp_path, "cat/a.jpg"))
    assert "1 quarantined, with reasons:" in said
    assert "quarantine/idx-0123456789ab.csv" in said
    assert "2 left out as copies:" in said
    assert "idx-0123456789ab/version.csv" in said
    assert "2 classes: 40 train, 9 frozen" in said
    assert "Done in 1 min 05 s." in said


def test_images_that_kept_an_earlier_side_are_a_warning_with_the_first_and_the_list(tmp_path: Path) -> None:
    data = prepared(tmp_path, "cat/a.jpg")
    assert "kept the side" not in printed(data)
    listing = tmp_path / "version-elsewhere.csv"
    listing.write_text("path,image_id,label,split,side\ntest/cat/[b]1.png,0a,cat,test,train\n", encoding="utf-8")
    moved = replace(data, dataset=replace(data.dataset, elsewhere=1, elsewhere_list=listing))
    told = " ".join(printed(moved).split())
    assert "warning 1 image under test/ kept the side of an earlier version" in told
    assert "1 train (first test/cat/[b]1.png): " in told
    assert "version-elsewhere.csv" in told


def test_a_file_name_is_no_markup(tmp_path: Path) -> None:
    assert "(first cat/[bold red]x[/].jpg)" in printed(prepared(tmp_path, "cat/[bold red]x[/].jpg"))


def test_the_next_commands_speak_of_the_same_data(tmp_path: Path) -> None:
    said = printed(prepared(tmp_path, "cat/a.jpg"))
    assert said.endswith("  make train SOURCE='my photos' SUBSET=all\n  make run SOURCE='my photos' SUBSET=all\n")


def test_who_has_not_tried_images_of_their_own_is_told_how(tmp_path: Path) -> None:
    said = printed(prepared(tmp_path, "cat/a.jpg"), TrainingParameters())
    assert said.endswith("  make train\n  make run\n  make run SOURCE=/path/to/your/class/folders\n")


def outcome(tmp_path: Path, verdict: Verdict) -> TrainingOutcome:
    """What `make train` ends with; with this verdict."""
    top1 = Interval(0.9, 0.8, 1.0)
    names = ("eval-1", tmp_path, "model-2", "ds-1", "evalset-1", "frozen")
    evaluation = Evaluation(*names, 9, top1, 0.5, (), ((5, 0), (1, 3)), 0.1, 0.2, 9.0)
    gate = GateVerdict("dec-1", "model-2", "task-1", "eval-1", "evalset-1", "model-1", verdict, (), "Told.")
    prepared_of = Preprocessing(32, "bicubic", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    texts = ("model-2", tmp_path, "ds-1", "task-1", "tiny", ("cat", "dog"), prepared_of)
    model = TrainedModel(*texts, 10, 0, 1, "cpu", 1, 1, 0.5, "", 1.0, 100.0)
    bento = PackagedBento("classifier:2-3", "classifier:2", model.id, tmp_path, "Answers alike.")
    return TrainingOutcome(prepared(tmp_path, "a"), model, evaluation, gate, bento, tmp_path / "report.html", {})


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_model_that_passed_and_was_not_released_leads_to_the_person_who_approves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: Verdict
) -> None:
    monkeypatch.setenv("FLYWHEEL_HOME", str(tmp_path))
    monkeypatch.setattr("flows.summary._an_image", lambda _: Path("cat/a.jpg"))
    out = io.StringIO()
    print_outcome(Console(file=out, width=240), outcome(tmp_path, verdict), None, 65.0)
    asked = "prefect deployment run 'approve-promotion/ask' -p gate_decision=dec-1 -p bento_tag=classifier:2-3"
    assert (asked in out.getvalue()) == (verdict is Verdict.PASS)
    assert ("switch Approve on" in out.getvalue()) == (verdict is Verdict.PASS)
    assert "measured again" not in out.getvalue()


def test_evidence_that_was_measured_again_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_HOME", str(tmp_path))
    monkeypatch.setattr("flows.summary._an_image", lambda _: Path("cat/a.jpg"))
    folder = Settings().paths.report(evaluation_id("model-1", "evalset-1"))
    logits, labels = np.eye(2, dtype=np.float32), np.arange(2)
    found = measure(logits, labels, ("cat", "dog"))
    champions = Evaluation(
        *(folder.name, folder, "model-1", "ds-1", "evalset-1", "frozen", 2, found.top1, found.majority_rate),
        *(found.classes, found.confusion, found.ece, found.nll, 9.0, "", "changed on disk, measured again today"),
    )
    write_record(champions, Predictions(np.array(["a", "b"]), labels, logits))
    out = io.StringIO()
    print_outcome(Console(file=out, width=240), outcome(tmp_path, Verdict.FAIL), None, 65.0)
    assert f"{folder.name} of model-1: changed on disk, measured again today" in out.getvalue()

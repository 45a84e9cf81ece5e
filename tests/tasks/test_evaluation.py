"""A model is measured once; its figures and its report are drawn again from records."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from flywheel.evaluation.record import (
    MANIFEST,
    PREDICTIONS,
    EvaluationError,
    _write_predictions,
    read_evaluation,
    read_predictions,
    remade,
)
from flywheel.records import Interval, to_json
from flywheel.settings import TrainingParameters
from tasks.evaluation import evaluate_model
from tasks.verdict_page import verdict_page
from tasks.visualize import main, make_report
from tests.flywheel.report.reader import Reader
from tests.tasks.judged_project import NOON, PARAMETERS, Project


def test_a_recorded_evaluation_is_read_without_the_model(project):
    evaluation = evaluate_model(project.strong, project.version, project.paths)
    shutil.rmtree(project.paths.models)
    assert evaluate_model(project.strong, project.version, project.paths) == evaluation
    assert len(read_predictions(evaluation.folder).ids) == project.version.counts["frozen"]


def test_a_record_that_was_changed_is_measured_again_and_says_so_for_good(project):
    """Whoever turned a model's answers on disk sees it found: in the log, the page of the verdict and the record."""
    first = evaluate_model(project.strong, project.version, project.paths)
    gate = project.judge(first)
    page = verdict_page(gate, project.ledger, project.paths)
    assert "measured again" not in page.read_text()
    answers = read_predictions(first.folder)
    _write_predictions(first.folder / PREDICTIONS, replace(answers, logits=-answers.logits))

    again = evaluate_model(project.strong, project.version, project.paths)
    assert again.correct_sha256 == first.correct_sha256
    assert re.fullmatch(
        rf"changed on disk, measured again 20\d\d-.* UTC \(.*logits\.parquet: SHA-256 {first.correct_sha256[:12]} "
        r"expected, [0-9a-f]{12} found\)",
        again.remade,
    )
    assert evaluate_model(project.strong, project.version, project.paths) == again
    assert project.judge(again) == gate
    told = Reader(verdict_page(gate, project.ledger, project.paths).read_text()).text
    assert f"{again.id} of {project.strong.id}: changed on disk, measured again" in told
    assert remade([None, project.weak.id, project.strong.id], project.version.evaluation_set_id, project.paths) == [
        f"{again.id} of {project.strong.id}: {again.remade}"
    ]

    shutil.rmtree(first.folder)  # what is deleted is not what was changed
    assert evaluate_model(project.strong, project.version, project.paths).remade == ""


@pytest.mark.parametrize("change", ["top1", "confusion", "classes", "images"])
def test_numbers_that_are_not_those_of_the_answers_are_measured_again(project, change):
    first = evaluate_model(project.weak, project.version, project.paths)
    best = tuple(replace(each, recall=Interval(1.0, 0.9, 1.0)) for each in first.classes)
    turned = {
        "top1": replace(first, top1=Interval(1.0, 0.9, 1.0)),
        "confusion": replace(first, confusion=tuple(row[::-1] for row in first.confusion)),
        "classes": replace(first, classes=best),
        "images": replace(first, images=first.images + 1),
    }[change]
    (first.folder / MANIFEST).write_text(to_json(turned))
    with pytest.raises(EvaluationError, match="by the answers beside it expected"):
        read_evaluation(first.folder)
    again = evaluate_model(project.weak, project.version, project.paths)
    assert again.top1 == first.top1
    assert "evaluation.json: top-1" in again.remade
    assert read_evaluation(first.folder) == again


def report(project: Project) -> Path:
    evaluation = evaluate_model(project.strong, project.version, project.paths)
    verdict = project.judge(evaluation)
    project.promote(verdict)
    assert verdict_page(verdict, project.ledger, project.paths)
    return make_report(
        project.strong, project.data, evaluation, verdict, "classifier:one", project.paths,
        champion=project.ledger.champion(), parameters=TrainingParameters(data=PARAMETERS), clock=lambda: NOON,
    )  # fmt: skip


def test_visualize_draws_the_champion_again_from_its_records(project, capsys):
    page = report(project)
    figures = project.paths.figures(project.strong.id)
    names = sorted(path.name for path in figures.iterdir())
    pictures = ["confusion_matrix.png", "learning_curve.png", "mistakes.png", "reliability.png"]
    assert [name for name in names if name.endswith(".png")] == pictures
    drawn, told = {name: (figures / name).read_bytes() for name in names}, page.read_text()
    (verdict,) = Reader(told).links
    shutil.rmtree(figures)
    page.unlink()
    (page.parent / verdict).unlink()
    (project.paths.model(project.strong.id) / "weights.safetensors").write_bytes(b"not needed")
    assert main([]) == 0
    assert {path.name: path.read_bytes() for path in figures.iterdir()} == drawn
    assert page.read_text().split("Written ")[0] == told.split("Written ")[0]
    assert (page.parent / verdict).is_file()
    assert "This model is the champion" in told
    assert "make run SOURCE=photos SUBSET=all" in told
    assert str(page) in capsys.readouterr().out


def test_visualize_says_what_is_missing(project, capsys):
    assert main([]) == 1
    assert "no ledger yet" in capsys.readouterr().err
    assert main(["--MODEL", "model-none"]) == 1
    assert "model-none" in capsys.readouterr().err
    assert main(["--model", project.strong.id]) == 1
    assert "no finished evaluation" in capsys.readouterr().err
    folder = report(project).parent
    (folder / "report.json").unlink()
    assert main(["--model", project.strong.id]) == 1
    assert f"no report on {project.strong.id} yet" in capsys.readouterr().err

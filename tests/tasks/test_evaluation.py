"""A model is measured once; its figures and its report are drawn again from records."""

import shutil
from pathlib import Path

from flywheel.evaluation.record import read_predictions
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

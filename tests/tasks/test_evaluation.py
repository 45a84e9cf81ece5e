"""Two real models on a real version: measured, judged, promoted, judged again, reported and drawn again."""

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flywheel.data.index import build_index
from flywheel.data.sources import fetch_source
from flywheel.data.versions import build_version
from flywheel.evaluation.record import read_predictions
from flywheel.ledger import Kind, Ledger, open_ledger
from flywheel.model.folder import model_id, partial_folder, publish
from flywheel.paths import Paths
from flywheel.records import DatasetVersion, Evaluation, PreparedData, TrainedModel, Verdict
from flywheel.settings import DataParameters, GatePolicy, Recipe, Settings, TrainingParameters
from tasks.evaluation import champion_evaluation, evaluate_model, judge_model
from tasks.fit import FitRequest, fit_request
from tasks.visualize import main, make_report

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
OPEN = GatePolicy(lift_over_majority=0, worst_class_recall=0, largest_ece=1, smallest_evaluation_set=10)
PARAMETERS = DataParameters(source="photos", subset=None)


@dataclass(frozen=True)
class Project:
    home: Path
    data: PreparedData
    weak: TrainedModel
    strong: TrainedModel

    @property
    def paths(self) -> Paths:
        return Paths(self.home)

    @property
    def version(self) -> DatasetVersion:
        return self.data.dataset

    @property
    def ledger(self) -> Ledger:
        return open_ledger(Settings(home=self.home, database_url=""))

    def judge(self, evaluation: Evaluation, policy: GatePolicy = OPEN):
        ledger = self.ledger
        champion = ledger.champion(self.version.task_id)
        return judge_model(evaluation, self.version, champion, policy, ledger, self.paths, clock=lambda: NOON)

    def promote(self, verdict):
        return self.ledger.promote(
            verdict.task_id, verdict.model_id, f"classifier:{verdict.model_id}", verdict.id, "passed", lambda: NOON
        )


def trained_here(version: DatasetVersion, epochs: int, paths: Paths) -> TrainedModel:
    """What the training process does, in this one: it spares two starts of torch."""
    recipe = Recipe(epochs=epochs, batch_size=50, flip=False)
    folder = paths.model(model_id(version, recipe, "cpu"))
    partial = partial_folder(folder)
    partial.mkdir(parents=True)
    fit_request(FitRequest(folder.name, version, recipe, "cpu", partial, paths.home, track=False), lambda _: None)
    return publish(partial, folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, photos) -> Project:
    home = tmp_path_factory.mktemp("project")
    settings = Settings(home=home, database_url="")
    source = fetch_source(str(photos), settings)
    index = build_index(source, settings.paths)
    version = build_version(index, (), PARAMETERS, settings.paths)
    weak, strong = (trained_here(version, epochs, settings.paths) for epochs in (1, 4))
    return Project(home, PreparedData(source, index, version, ()), weak, strong)


@pytest.fixture
def project(trained, tmp_path, monkeypatch) -> Project:
    """A copy, so that each test has its own ledger, reports and models to break."""
    home = tmp_path / "project"
    shutil.copytree(trained.home, home)
    monkeypatch.setenv("FLYWHEEL_HOME", str(home))
    monkeypatch.setenv("FLYWHEEL_DATABASE_URL", "")
    return Project(home, trained.data, trained.weak, trained.strong)


def test_a_better_model_takes_over_and_a_worse_one_does_not(project):
    weak, strong = (evaluate_model(model, project.version, project.paths) for model in (project.weak, project.strong))
    assert strong.top1.value > weak.top1.value
    first = project.judge(weak)
    assert (first.verdict, first.champion_id) == (Verdict.PASS, None)
    assert project.promote(first).promoted
    second = project.judge(strong)
    assert (second.verdict, second.champion_id) == (Verdict.PASS, project.weak.id)
    assert project.promote(second).promoted
    third = project.judge(weak)
    assert third.verdict is Verdict.FAIL
    assert f"below the champion {project.strong.id}" in third.reason
    assert not project.promote(third).promoted
    assert project.ledger.champion().model_id == project.strong.id


def test_the_champion_judged_again_keeps_the_verdict_that_made_it_champion(project):
    evaluation = evaluate_model(project.strong, project.version, project.paths)
    first = project.judge(evaluation)
    project.promote(first)
    again = project.judge(evaluation)
    assert again == first
    assert "champion already" in project.promote(again).reason
    assert len(project.ledger.decisions(kind=Kind.GATE)) == 1
    assert len(project.ledger.evaluation_set_uses(project.version.evaluation_set_id)) == 1


def test_the_champion_judged_under_another_policy_is_another_decision(project):
    evaluation = evaluate_model(project.strong, project.version, project.paths)
    first = project.judge(evaluation)
    project.promote(first)
    stricter = project.judge(evaluation, OPEN.model_copy(update={"smallest_evaluation_set": 10_000}))
    assert stricter.id != first.id
    assert stricter.verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert stricter.rules[-1].reason == f"{project.strong.id} is the champion itself."


def test_a_champion_without_a_record_is_measured_now(project):
    project.promote(project.judge(evaluate_model(project.weak, project.version, project.paths)))
    shutil.rmtree(project.paths.reports)
    verdict = project.judge(evaluate_model(project.strong, project.version, project.paths))
    assert verdict.verdict is Verdict.PASS
    champion = champion_evaluation(project.ledger.champion(), project.version, project.paths)
    assert champion.folder.is_dir()
    recorded = project.ledger.decision(verdict.id)
    assert recorded.inputs["champion_evaluation_id"] == champion.id
    assert recorded.evidence["champion"]["top1"]["value"] == champion.top1.value


def test_a_champion_that_can_not_be_loaded_stays_and_the_reason_says_why(project):
    project.promote(project.judge(evaluate_model(project.weak, project.version, project.paths)))
    shutil.rmtree(project.paths.reports)
    (project.paths.model(project.weak.id) / "weights.safetensors").write_bytes(b"rust")
    verdict = project.judge(evaluate_model(project.strong, project.version, project.paths))
    assert verdict.verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert "SHA-256" in verdict.reason
    assert not project.promote(verdict).promoted
    assert project.ledger.champion().model_id == project.weak.id


def test_a_recorded_evaluation_is_read_without_the_model(project):
    evaluation = evaluate_model(project.strong, project.version, project.paths)
    shutil.rmtree(project.paths.models)
    assert evaluate_model(project.strong, project.version, project.paths) == evaluation
    assert len(read_predictions(evaluation.folder).ids) == project.version.counts["frozen"]


def report(project: Project) -> Path:
    evaluation = evaluate_model(project.strong, project.version, project.paths)
    verdict = project.judge(evaluation)
    project.promote(verdict)
    return make_report(
        project.strong, project.data, evaluation, verdict, "classifier:one", project.paths,
        champion=project.ledger.champion(), parameters=TrainingParameters(data=PARAMETERS), clock=lambda: NOON,
    )  # fmt: skip


def test_visualize_draws_the_champion_again_from_its_records(project, capsys):
    page = report(project)
    figures = project.paths.figures(project.strong.id)
    names = sorted(path.name for path in figures.iterdir())
    assert names == ["confusion_matrix.png", "learning_curve.png", "mistakes.png", "reliability.png"]
    drawn, told = {name: (figures / name).read_bytes() for name in names}, page.read_text()
    shutil.rmtree(figures)
    page.unlink()
    (project.paths.model(project.strong.id) / "weights.safetensors").write_bytes(b"not needed")
    assert main([]) == 0
    assert {path.name: path.read_bytes() for path in figures.iterdir()} == drawn
    assert page.read_text().split("Written ")[0] == told.split("Written ")[0]
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


def test_the_decision_holds_what_another_policy_would_need(project):
    verdict = project.judge(evaluate_model(project.strong, project.version, project.paths))
    decision = project.ledger.decision(verdict.id)
    challenger = decision.evidence["challenger"]
    assert challenger["confusion"] == []
    assert len(challenger["classes"]) == 3
    assert json.dumps(decision.policy)
    assert decision.inputs["evidence_sha256"] == challenger["correct_sha256"]

"""Two real models on a real version, to be measured, judged, promoted, and broken."""

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flywheel.data.index import build_index
from flywheel.data.sources import fetch_source
from flywheel.data.versions import build_version
from flywheel.ledger import Ledger, open_ledger
from flywheel.model.folder import model_id, partial_folder, publish
from flywheel.paths import Paths
from flywheel.policies import GatePolicy
from flywheel.records import DatasetVersion, Evaluation, Parity, PreparedData, ProbeResult, TrainedModel
from flywheel.settings import DataParameters, Recipe, Settings
from tasks.fit import FitRequest, fit_request
from tasks.gate import judge_model

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
# A hundred frozen images of three classes: nearly anything is let through that is shown to be better at all.
OPEN = GatePolicy(
    lift_over_majority=0,
    worst_class_recall=0,
    largest_ece=1,
    smallest_evaluation_set=10,
    margin=0.5,
    planned_gates=4,
    wrong_promotion_budget=0.45,
    smallest_slice=20,
    largest_slice_drop=1,
    slice_error=0.01,
    largest_robustness_loss=1,
    largest_latency_ratio=1000,
)
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

    def judge(
        self, evaluation: Evaluation, policy: GatePolicy = OPEN, parity: Parity | None = None, *, served: bool = True
    ):
        ledger = self.ledger
        champion = ledger.champion(self.version.task_id)
        return judge_model(
            evaluation,
            self.version,
            champion,
            policy,
            ledger,
            self.paths,
            parity=(parity or served_alike(evaluation.model_id)) if served else None,
            clock=lambda: NOON,
        )

    def promote(self, verdict):
        return self.ledger.promote(
            verdict.task_id, verdict.model_id, f"classifier:{verdict.model_id}", verdict.id, "passed", lambda: NOON
        )


def served_alike(model: str) -> Parity:
    """What serving a Bento that is its model leaves."""
    return Parity(f"classifier:{model}", model, 1e-3, (ProbeResult("jpeg", 1e-6),), "ab", "cd")


def trained_here(version: DatasetVersion, epochs: int, paths: Paths) -> TrainedModel:
    """What the training process does, in this one: it spares two starts of torch."""
    recipe = Recipe(epochs=epochs, batch_size=50, flip=False)
    folder = paths.model(model_id(version, recipe, "cpu"))
    partial = partial_folder(folder)
    partial.mkdir(parents=True)
    fit_request(FitRequest(folder.name, version, recipe, "cpu", partial, paths.home, track=False), lambda _: None)
    return publish(partial, folder)


@pytest.fixture(scope="session")
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
    """A copy, so that each test has its own ledger, data, reports and models to break."""
    home = tmp_path / "project"
    shutil.copytree(trained.home, home)
    monkeypatch.setenv("FLYWHEEL_HOME", str(home))
    monkeypatch.setenv("FLYWHEEL_DATABASE_URL", "")
    monkeypatch.setattr("tasks.gate_evidence.COST_SECONDS", 2.0)  # enough for a small net
    dataset = replace(trained.version, folder=Paths(home).dataset(trained.version.id))
    return Project(home, replace(trained.data, dataset=dataset), trained.weak, trained.strong)

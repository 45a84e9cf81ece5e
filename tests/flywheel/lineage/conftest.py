"""A home with all that stands behind a champion: real source, index, version, records and ledger, and a Bento's files
as BentoML leaves them. The models' weights are a few bytes: nothing here runs one."""

import importlib.metadata
import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from flywheel.data.extension import extend_version
from flywheel.data.folders import write_json
from flywheel.data.index import build_index
from flywheel.data.versions import build_version, load_version, open_arrays
from flywheel.evaluation.metrics import measure
from flywheel.evaluation.record import Predictions, write_record
from flywheel.identity import name_of
from flywheel.ledger import Decision, Ledger, open_ledger
from flywheel.ledger.predictions import PredictionLog, open_predictions
from flywheel.lineage.checks import artifacts_of
from flywheel.model.folder import list_files, read_model, write_manifest
from flywheel.paths import Paths
from flywheel.records import (
    DatasetVersion,
    Evaluation,
    ExpectationResult,
    GateVerdict,
    Preprocessing,
    Release,
    Severity,
    Side,
    Source,
    TrainedModel,
    ValidationResult,
    Verdict,
    to_json,
)
from flywheel.settings import PROJECT, DataParameters, ExtensionParameters, Settings
from tasks.bento_contents import contents_version, pinned_packages, shipped_files

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
# found once: it takes a quarter of a second
CONTENTS, SHIPPED = contents_version(PROJECT), shipped_files(PROJECT)
PINS = [*pinned_packages(), f"bentoml=={importlib.metadata.version('bentoml')}"]


@dataclass(frozen=True)
class Home:
    """A project's home, and how models come into it."""

    folder: Path

    @property
    def paths(self) -> Paths:
        return Paths(self.folder)

    @property
    def ledger(self) -> Ledger:
        return open_ledger(Settings(home=self.folder, database_url=""))

    @property
    def predictions(self) -> PredictionLog:
        return open_predictions(Settings(home=self.folder, database_url=""))

    @property
    def version(self) -> DatasetVersion:
        """The only one, or the one that extends it."""
        return max((load_version(folder) for folder in self.paths.datasets.glob("ds-*")), key=lambda each: each.extends)

    def extend(self) -> DatasetVersion:
        """A version of the only one and of labelled images."""
        rng, folder = np.random.default_rng(1), self.paths.raw("labels-1")
        for number in range(40):
            file = folder / ("cat", "dog")[number % 2] / f"{number:03d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(file)
        index = build_index(Source("labels-1", folder, "labels"), self.paths)
        return extend_version(self.version, index, (), ExtensionParameters(), self.paths)

    def model(self, name: str, verdict: Verdict = Verdict.PASS, *, bento: bool = True) -> str:
        """A judged model, packaged; returns its id."""
        model = self._trained(name)
        self._judged(model, verdict)
        if bento:
            self.bento(model)
        return model.id

    def promoted(self, name: str) -> str:
        """A model that is champion by its gate; returns its id."""
        identity = self.model(name)
        assert self.promote(identity).promoted
        return identity

    def promote(self, model_id: str) -> Release:
        gate = self.gate(model_id)
        artifacts = artifacts_of(read_model(self.paths.model(model_id)), self.paths)
        return self.ledger.promote(
            gate.task_id, model_id, self.tag(model_id), gate.id, "It passed.", lambda: NOON, artifacts=artifacts
        )

    def gate(self, model_id: str) -> Decision:
        return self.ledger.decisions(model_id=model_id)[-1]

    def tag(self, model_id: str, contents: str = CONTENTS) -> str:
        return f"classifier:{model_id.removeprefix('model-')}-{contents[:8]}"

    def _trained(self, name: str) -> TrainedModel:
        identity = name_of("model", name)
        folder = self.paths.model(identity)
        folder.mkdir(parents=True)
        (folder / "weights.safetensors").write_bytes(name.encode() * 100)
        files = list_files(folder, ["weights.safetensors"])
        version, prepared = self.version, Preprocessing(32, "bicubic", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
        texts = (identity, folder, version.id, version.task_id, "tiny", version.classes, prepared)
        model = TrainedModel(*texts, 10, 0, 1, "cpu", 1, 1, 0.5, files["weights.safetensors"], 1.0, 100.0)
        write_manifest(folder, model, files, {})
        return model

    def _judged(self, model: TrainedModel, verdict: Verdict) -> None:
        version, ledger = self.version, self.ledger
        evaluation_id, count = name_of("eval", model.id), version.counts["frozen"]
        ids = open_arrays(version).ids[:count]
        answers = Predictions(ids, np.zeros(count, np.int64), np.zeros((count, len(version.classes)), np.float32))
        found = measure(answers.logits, answers.labels, version.classes)
        measured = Evaluation(
            *(evaluation_id, self.paths.report(evaluation_id), model.id, version.id, version.evaluation_set_id),
            *(
                "frozen",
                count,
                found.top1,
                found.majority_rate,
                found.classes,
                found.confusion,
                found.ece,
                found.nll,
                1.0,
            ),
        )
        measured = write_record(measured, answers)
        champion = ledger.champion(version.task_id)
        inputs = {"model_id": model.id, "dataset_id": version.id, "evaluation_id": evaluation_id}
        inputs |= {"evidence_sha256": measured.correct_sha256, "champion_id": champion and champion.model_id}
        judged = GateVerdict(
            id=name_of("dec", {"kind": "gate", "inputs": inputs, "policy": {}}),
            model_id=model.id,
            task_id=version.task_id,
            evaluation_id=evaluation_id,
            evaluation_set_id=version.evaluation_set_id,
            champion_id=inputs["champion_id"],
            verdict=verdict,
            rules=(),
            reason="All rules passed." if verdict is Verdict.PASS else "Not better.",
        )
        ledger.record_gate(judged, inputs=inputs, policy={}, evidence={}, clock=lambda: NOON)

    def bento(self, model: TrainedModel) -> None:
        tag, stored = self.tag(model.id), f"classifier:{model.id.removeprefix('model-')}"
        shutil.copytree(model.folder, self.paths.bentoml / "models" / stored.replace(":", "/"))
        folder = self.paths.bentoml / "bentos" / tag.replace(":", "/")
        for file in SHIPPED:
            (folder / "src" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / file, folder / "src" / file)
        (folder / "src" / "bentofile.yaml").write_text("{}", encoding="utf-8")
        description = {
            "labels": {"model": model.id},
            "creation_time": NOON.isoformat(),
            "models": [{"tag": stored}],
            "image": {"python_requirements": "\n".join(PINS)},
        }
        (folder / "bento.yaml").write_text(yaml.safe_dump(description), encoding="utf-8")


@pytest.fixture(scope="session")
def finished_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Source, index, version and validations, and a ledger without a row."""
    home = tmp_path_factory.mktemp("home")
    paths = Paths(home)
    rng = np.random.default_rng(0)
    for number in range(80):
        file = paths.raw("pets") / ("cat", "dog")[number % 2] / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(file)
    shutil.copyfile(paths.raw("pets") / "cat" / "000.png", paths.raw("pets") / "cat" / "copy.png")
    index = build_index(Source("pets", paths.raw("pets"), "pets"), paths)
    version = build_version(index, (), DataParameters(subset=None), paths)
    for subject, suite in ((index.id, "images"), (version.id, "splits")):
        result = ExpectationResult("expect", "table", "It holds", Severity.CRITICAL, True, "1", 0)
        paths.validations.mkdir(parents=True, exist_ok=True)
        validation = ValidationResult(suite, subject, (result,))
        (paths.validations / f"{subject}-{suite}-0.json").write_text(to_json(validation), encoding="utf-8")
    open_ledger(Settings(home=home, database_url=""))
    return home


@pytest.fixture
def home(finished_home: Path, tmp_path: Path) -> Home:
    """A copy of it, whose index knows the copy of the source."""
    copy = tmp_path / "home"
    shutil.copytree(finished_home, copy)
    (manifest,) = copy.glob("data/interim/*/index.json")
    content = json.loads(manifest.read_text(encoding="utf-8"))
    write_json(manifest, {**content, "folder": str(Paths(copy).raw("pets")).encode().hex()})
    return Home(copy)


@pytest.fixture
def frozen_image(home: Home) -> tuple[str, Path]:
    """The id and the file of an image on the frozen side."""
    return image_on(home, Side.FROZEN)


def image_on(home: Home, side: Side) -> tuple[str, Path]:
    from flywheel.data.versions import version_table

    rows = version_table(home.version)
    row = rows[rows["side"] == str(side)].iloc[0]
    return str(row["image_id"]), home.paths.raw("pets") / str(row["path"])

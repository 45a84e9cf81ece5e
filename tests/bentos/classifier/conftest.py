"""Two tiny real networks with drawn weights, in folders as training leaves them."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from bentos.classifier.answers import ServedModel
from bentos.classifier.bundle import Bundle, Standing, load_bundle
from flywheel.ledger.predictions import Role, Serving
from flywheel.model.architecture import create, parameter_count
from flywheel.model.checkpoint import save_weights
from flywheel.model.folder import WEIGHTS, list_files, write_manifest
from flywheel.model.inference import load_model
from flywheel.model.reference import SAMPLES, Reference, fit_projection, write_reference
from flywheel.records import Preprocessing, TrainedModel
from flywheel.runtime.running import RunningModel

CLASSES = ("cat", "dog", "ship", "truck", "frog", "horse", "bird")
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def write_model(folder: Path, seed: int) -> TrainedModel:
    """A model's folder, whole: manifest, weights, reference."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    network = create("airbench_small", len(CLASSES), 32)
    save_weights(network.state_dict(), folder / WEIGHTS)
    model = TrainedModel(
        id=folder.name,
        folder=folder,
        dataset_id="ds-1",
        task_id="task-1",
        architecture="airbench_small",
        classes=CLASSES,
        preprocessing=Preprocessing(32, "bicubic", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        parameters=parameter_count(network),
        seed=seed,
        threads=1,
        device="cpu",
        epochs=1,
        best_epoch=1,
        top1_validation=0.5,
        weights_sha256=list_files(folder, [WEIGHTS])[WEIGHTS],
        train_seconds=1.0,
        images_per_second=1.0,
        temperature=0.1,  # drawn weights hardly tell images apart
    )
    write_manifest(folder, model, list_files(folder, [WEIGHTS]), {})
    images = np.random.default_rng(seed).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    outputs = load_model(folder).predict_packed(images)
    reference = Reference(
        logits=outputs.logits,
        embeddings=outputs.embeddings,
        statistics=np.zeros((len(images), 1), np.float32),
        statistic_names=("brightness",),
        labels=np.zeros(len(images), np.int64),
        ids=np.array([f"{row:064x}" for row in range(len(images))]),
        projection=fit_projection(outputs.embeddings),
        samples=images[:SAMPLES],
    )
    write_manifest(folder, model, list_files(folder, [WEIGHTS, *write_reference(folder, reference)]), {})
    return model


def bundle_of(folder: Path, role: Role = Role.CHAMPION, number: int = 1) -> Bundle:
    model_id = folder.name
    serving = Serving(number, "task-1", model_id, f"classifier:{model_id[6:]}", "dec-1", role, "host:1", SINCE)
    return load_bundle(folder, serving, ServedModel.of(load_model(folder).model, {"evaluation": "eval-1"}))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `models/` folder with two models of one task, told apart by their answers."""
    folder = tmp_path_factory.mktemp("home") / "models"
    for seed, name in enumerate(("model-0123456789ab", "model-ba9876543210")):
        write_model(folder / name, seed)
    return folder


@pytest.fixture(scope="session")
def bundle(models: Path) -> Bundle:
    return bundle_of(models / "model-0123456789ab")


@pytest.fixture(scope="session")
def challenger(models: Path) -> Bundle:
    return bundle_of(models / "model-ba9876543210", Role.CANARY, 2)


@pytest.fixture(scope="session")
def classifier(bundle: Bundle) -> RunningModel:
    return bundle.classifier


def as_shadow(bundle: Bundle) -> Bundle:
    return replace(bundle, serving=replace(bundle.serving, role=Role.SHADOW))


def standing(bundle: Bundle) -> Standing:
    return Standing(bundle)

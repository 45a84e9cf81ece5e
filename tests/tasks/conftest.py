"""A tiny model, really trained, in a folder as training leaves it; and a tiny dataset version to train on."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from flywheel.data.index import build_index
from flywheel.data.sources import fetch_source
from flywheel.data.versions import build_version
from flywheel.model.folder import HISTORY, WEIGHTS, list_files, read_model, write_manifest
from flywheel.model.inference import load_model
from flywheel.model.preprocessing import measure_preprocessing
from flywheel.model.reference import SAMPLES, Reference, fit_projection, write_reference
from flywheel.model.training import fit
from flywheel.paths import Paths
from flywheel.records import DatasetVersion, PackagedBento, TrainedModel
from flywheel.settings import DataParameters, Recipe, Settings
from tasks.packaging import package_model
from tests.tasks.judged_project import project, trained
from tests.tasks.watched_project import watched

__all__ = ["project", "trained", "watched"]

SIZE = 32
CLASSES = ("zero", "one", "two")
TRAINED, VALIDATED = np.arange(0, 400), np.arange(400, 450)


def upsampled_digits() -> tuple[np.ndarray, np.ndarray]:
    """uint8[N, S, S, 3] and int64[N]: scikit-learn's scans of 0, 1 and 2."""
    digits = load_digits(n_class=len(CLASSES))
    gray = (digits.images * 15.9375).astype(np.uint8)
    images = [Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BICUBIC).convert("RGB") for image in gray]
    return np.stack([np.asarray(image) for image in images]), digits.target.astype(np.int64)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's home, with a space in its name as users have them."""
    return tmp_path_factory.mktemp("fly wheel")


@pytest.fixture(scope="session")
def trained_model(home: Path) -> TrainedModel:
    folder = home / "models" / "model-0123456789ab"
    folder.mkdir(parents=True)
    images, labels = upsampled_digits()
    preprocessing = measure_preprocessing(images, TRAINED, "bicubic")
    recipe = Recipe(epochs=3, batch_size=50, flip=False)
    fitted = fit(
        images, labels, TRAINED, VALIDATED, CLASSES, recipe, "cpu", folder, lambda _: None, preprocessing=preprocessing
    )
    model = TrainedModel(
        id=folder.name,
        folder=folder,
        dataset_id="ds-0123456789ab",
        task_id="task-0123456789ab",
        architecture=recipe.model,
        classes=CLASSES,
        preprocessing=preprocessing,
        parameters=fitted.parameters,
        seed=recipe.seed,
        threads=recipe.threads,
        device="cpu",
        epochs=recipe.epochs,
        best_epoch=fitted.best_epoch,
        top1_validation=fitted.top1_validation,
        weights_sha256=list_files(folder, [WEIGHTS])[WEIGHTS],
        train_seconds=fitted.train_seconds,
        images_per_second=fitted.images_per_second,
    )
    write_manifest(folder, model, list_files(folder, [WEIGHTS, HISTORY]), {})  # enough to load it for its reference
    files = write_reference(folder, _reference(folder, images[VALIDATED], labels[VALIDATED]))
    write_manifest(folder, model, list_files(folder, [WEIGHTS, HISTORY, *files]), {})
    return read_model(folder)


@pytest.fixture(scope="session")
def paths(home: Path) -> Paths:
    return Paths(home)


@pytest.fixture(scope="session")
def bento(trained_model: TrainedModel, paths: Paths) -> PackagedBento:
    """Built for real, once."""
    return package_model(trained_model, None, paths)


def _reference(folder: Path, images: np.ndarray, labels: np.ndarray) -> Reference:
    outputs = load_model(folder).predict_packed(images)
    return Reference(
        logits=outputs.logits,
        embeddings=outputs.embeddings,
        statistics=np.zeros((len(images), 1), np.float32),
        statistic_names=("brightness",),
        labels=labels,
        ids=np.array([f"{row:064x}" for row in range(len(images))]),
        projection=fit_projection(outputs.embeddings),
        samples=images[:SAMPLES],
    )


@pytest.fixture(scope="session")
def version(tmp_path_factory: pytest.TempPathFactory) -> DatasetVersion:
    """400 generated images of two colours, with sides as the pipeline gives them."""
    folder = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(0)
    for name, channel in (("red", 0), ("blue", 2)):
        (folder / name).mkdir()
        for number in range(200):
            pixels = rng.integers(0, 150, (16, 16, 3))
            pixels[:, :, channel] += 60
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:03d}.png")
    settings = Settings(home=tmp_path_factory.mktemp("data"))
    index = build_index(fetch_source(str(folder), settings), settings.paths)
    return build_version(index, [], DataParameters(source=str(folder), size=8), settings.paths)

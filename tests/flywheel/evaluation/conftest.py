"""Generated images of two classes, a model whose weaknesses are planted, and records of robustness by hand."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from flywheel.data.index import build_index
from flywheel.data.versions import build_version
from flywheel.evaluation.corruptions import CONDITIONS
from flywheel.evaluation.robustness import Condition, Robustness
from flywheel.paths import Paths
from flywheel.records import DatasetVersion, Preprocessing, Source, TrainedModel
from flywheel.settings import DataParameters

CLASSES = ("bright", "dark")


@pytest.fixture(autouse=True)
def one_thread():
    """Two threads on small arrays wait for each other where the machine is busy."""
    torch.set_num_threads(1)


@dataclass
class Brightness:
    """Answers by the mean of the pixels, but turns the answer on images that it was told to be weak on."""

    model: TrainedModel
    weak_on: set[bytes] = field(default_factory=set)
    threshold: float = 125.0
    seen: list[int] = field(default_factory=list)  # images, by call

    def predict_packed(self, images):
        self.seen.append(len(images))
        lighter = (images.reshape(len(images), -1).mean(axis=1) - self.threshold) / 20
        lighter *= [-1 if image.tobytes() in self.weak_on else 1 for image in images]
        return SimpleNamespace(logits=np.stack([lighter, -lighter], axis=1).astype(np.float32))

    def classify(self, images):
        size = self.model.preprocessing.size
        assert all(image.shape == (16, 16, 3) for image in images)  # the originals
        return self.predict_packed(np.stack([image[:size, :size] for image in images]))


@pytest.fixture(scope="session")
def pictures() -> Callable[[int], tuple[np.ndarray, np.ndarray, list[str]]]:
    """Noisy images of two classes, none alike, their labels and ids."""

    def make(count: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
        labels = np.arange(count) % 2
        levels = np.where(labels == 0, 190, 60)[:, None, None, None]
        noise = np.random.default_rng(0).normal(0, 40, (count, 16, 16, 3))
        return np.clip(levels + noise, 0, 255).astype(np.uint8), labels, [f"{number:04d}" for number in range(count)]

    return make


@pytest.fixture(scope="module")
def home(tmp_path_factory, pictures) -> Path:
    """200 of the pictures as files, for tests of a module that need a real version."""
    folder = tmp_path_factory.mktemp("home")
    images, labels, ids = pictures(200)
    for pixels, label, name in zip(images, labels, ids, strict=True):
        path = folder / "pets" / CLASSES[label] / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def version(home) -> DatasetVersion:
    index = build_index(Source("pets", home / "pets", "pets"), Paths(home))
    return build_version(index, (), DataParameters(source="pets", size=16, subset=None), Paths(home))


@pytest.fixture(scope="session")
def brightness_model() -> Callable[..., Brightness]:
    def make(
        name: str = "model-1", size: int = 16, version: DatasetVersion | None = None, classes=CLASSES, **more
    ) -> Brightness:
        preprocessing = Preprocessing(size, version.filter if version else "bicubic", (0.5,) * 3, (0.2,) * 3)
        dataset = version.id if version else "ds-1"
        model = TrainedModel(
            name, Path(), dataset, "task-1", "brightness", classes, preprocessing, 1, 0, 1, "cpu", 1, 1, 0.9, "ab" * 32,
            1.0, 1.0,
        )  # fmt: skip
        return Brightness(model, **more)

    return make


@pytest.fixture(scope="session")
def robustness_of() -> Callable[..., Robustness]:
    """Of outcomes bool[21, images]."""

    def make(right: np.ndarray, name: str = "model-1") -> Robustness:
        conditions = tuple(
            Condition(*condition, int(bits.sum()), np.packbits(bits).tobytes().hex())
            for condition, bits in zip(CONDITIONS, right, strict=True)
        )
        return Robustness(name, "ab" * 32, right.shape[1], 16, conditions, 1.0)

    return make

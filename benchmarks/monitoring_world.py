"""What two served models see: real images that they never learned from, clean and corrupted, as the prediction log
would have kept them. The benchmarks of monitoring draw their references and windows from these.

Two models of different architecture are trained by the real flow, each on 10,000 images of its own draw; what is left
of CIFAR-10 is the world. Kept in the folder that is given, so that the next benchmark trains nothing.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flywheel.data.measurements import statistics
from flywheel.data.versions import load_version, open_arrays
from flywheel.evaluation.corruptions import ALL_SEVERITIES, CORRUPTIONS, corrupt
from flywheel.identity import code_version, digest
from flywheel.model.folder import read_model
from flywheel.model.inference import Classifier, load_model, softmax
from flywheel.model.reference import Projection, fit_projection
from flywheel.monitoring.breakages import BREAKAGES, broken
from flywheel.monitoring.sample import Sample
from flywheel.records import Side
from flywheel.settings import PROJECT, Settings

MODELS = {
    "airbench_small": ("--SUBSET", "10000", "--EPOCHS", "5"),
    "resnet10t": (
        *("--SUBSET", "10000", "--SUBSET_SEED", "1", "--SEED", "1", "--MODEL", "resnet10t", "--STEM", "small"),
        *("--EPOCHS", "5", "--LEARNING_RATE", "0.02"),
    ),
}
UNSEEN = (Side.REFERENCE, Side.UNUSED, Side.FROZEN)
CORRUPTED = 2_000  # images that are shown in every condition; the last ones, which no reference is drawn from
PROJECTED_FROM = 5_000  # images whose embeddings give the projection: the model's own reference side
ANSWERING = ("data", "model", "evaluation/corruptions.py", "monitoring/breakages.py", "monitoring/sample.py")
FOREIGN = 1_500  # scikit-learn's digits, in colour and of the images' size


@dataclass(frozen=True)
class Labelled:
    """A sample whose labels are known, for scoring alone; -1 where no class fits."""

    sample: Sample
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64] | slice) -> "Labelled":
        return Labelled(self.sample.take(rows), self.labels[rows])

    @property
    def accuracy(self) -> float:
        return float((self.sample.predicted == self.labels).mean())


@dataclass(frozen=True)
class World:
    """All that one model ever saw, but for its training images."""

    name: str
    clean: Labelled  # the reference side first
    images: NDArray[np.uint8]  # [CORRUPTED, S, S, 3]: the last of the clean ones
    ids: NDArray[np.str_]  # of these
    conditions: dict[str, Labelled]  # "blur 3" and the breakages by name: the same images, changed
    foreign: Labelled
    projection: Projection
    classifier: Classifier
    reference_images: int

    @property
    def changed(self) -> Labelled:
        """The images that the conditions changed, as they were."""
        return self.clean.take(slice(len(self.clean) - CORRUPTED, None))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", "--SOURCE", required=True, help="CIFAR-10 as class folders")
    parser.add_argument("--homes", type=Path, help="a folder that keeps models and answers, for the next time")


@contextmanager
def worlds(source: str, homes: Path | None) -> Iterator[dict[str, World]]:
    with tempfile.TemporaryDirectory(prefix="flywheel-monitoring-", ignore_cleanup_errors=True) as scratch:
        yield {name: _world(name, source, (homes or Path(scratch)) / name) for name in MODELS}


def _world(name: str, source: str, home: Path) -> World:
    home.mkdir(parents=True, exist_ok=True)
    if not list((home / "models").glob("model-*")):
        _train(name, source, home)
    paths = Settings(home=home, database_url="").paths
    model = read_model(next(paths.models.glob("model-*")))
    classifier = load_model(paths.model(model.id))
    arrays = open_arrays(load_version(paths.dataset(model.dataset_id)))
    random = np.random.default_rng(0)
    rows = np.concatenate([random.permutation(arrays.side(side)) for side in UNSEEN])
    rows = np.concatenate([rows[:PROJECTED_FROM], random.permutation(rows[PROJECTED_FROM:])])
    images, ids, labels = arrays.images[rows], arrays.ids[rows], arrays.labels[rows]
    answered_by = [model.id, code_version(PROJECT / "flywheel", ANSWERING)]
    kept = home / f"answers-{digest(answered_by)[:12]}.npz"
    if not kept.is_file():
        for older in home.glob("answers-*.npz"):
            older.unlink()
        _answer(classifier, images, ids, kept)
    with np.load(kept, allow_pickle=False) as found:
        arrays_of = dict(found)
    projection = Projection(arrays_of["projection_mean"], arrays_of["projection_components"])
    last = labels[-CORRUPTED:]
    return World(
        name,
        Labelled(_sample(arrays_of, "clean"), labels),
        images[-CORRUPTED:],
        ids[-CORRUPTED:],
        {condition: Labelled(_sample(arrays_of, condition), last) for condition in _conditions()},
        Labelled(_sample(arrays_of, "foreign"), np.full(FOREIGN, -1)),
        projection,
        classifier,
        len(arrays.side(Side.REFERENCE)),
    )


def _conditions() -> list[str]:
    return [f"{corruption} {severity}" for corruption in CORRUPTIONS for severity in ALL_SEVERITIES] + list(BREAKAGES)


def changed(images: NDArray[np.uint8], ids: NDArray[np.str_], condition: str) -> NDArray[np.uint8]:
    if condition in BREAKAGES:
        return broken(images, condition)
    corruption, _, severity = condition.rpartition(" ")
    return corrupt(images, ids, corruption, int(severity))


def _answer(classifier: Classifier, images: NDArray[np.uint8], ids: NDArray[np.str_], file: Path) -> None:
    embeddings = classifier.predict_packed(images[:PROJECTED_FROM]).embeddings
    projection = fit_projection(embeddings)
    arrays = {"projection_mean": projection.mean, "projection_components": projection.components}
    shown = {"clean": images, "foreign": _digits(images.shape[1])}
    for name, pixels in shown.items():
        arrays |= _asked(classifier, projection, pixels, name)
    for condition in _conditions():
        arrays |= _asked(classifier, projection, changed(images[-CORRUPTED:], ids[-CORRUPTED:], condition), condition)
    work = file.with_suffix(".part.npz")
    np.savez(work, **arrays)  # type: ignore[arg-type]
    work.replace(file)


def ask(world: World, pixels: NDArray[np.uint8]) -> Sample:
    """What the world's model says of other images, as the log would keep it."""
    return _answered(world.classifier, world.projection, pixels)


def _answered(classifier: Classifier, projection: Projection, pixels: NDArray[np.uint8]) -> Sample:
    outputs = classifier.predict_packed(pixels)
    measured = [statistics(pixels[first : first + 64]) for first in range(0, len(pixels), 64)]
    return Sample(
        softmax(outputs.logits),
        projection.apply(outputs.embeddings).astype(np.float16).astype(np.float32),
        np.concatenate(measured),
    )


def _asked(
    classifier: Classifier, projection: Projection, pixels: NDArray[np.uint8], name: str
) -> dict[str, NDArray[np.float32]]:
    found = _answered(classifier, projection, pixels)
    return {f"{name}/{part}": getattr(found, part) for part in ("probabilities", "embeddings", "statistics")}


def _sample(arrays: dict[str, NDArray[np.float32]], name: str) -> Sample:
    return Sample(*(arrays[f"{name}/{part}"] for part in ("probabilities", "embeddings", "statistics")))


def _digits(size: int) -> NDArray[np.uint8]:
    """Foreign images: handwritten digits, grey, scaled up."""
    from PIL import Image
    from sklearn.datasets import load_digits

    grey = (load_digits().images[:FOREIGN] * (255 / 16)).astype(np.uint8)
    resized = [np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)) for image in grey]
    return np.repeat(np.stack(resized)[..., None], 3, axis=-1)


def _train(name: str, source: str, home: Path) -> None:
    environment = {**os.environ, "FLYWHEEL_HOME": str(home), "FLYWHEEL_DATABASE_URL": ""}
    command = [sys.executable, "-m", "flows.run", "--until", "train", "--SOURCE", source, "--SMALLEST_POWER", "0"]
    done = subprocess.run(
        [*command, *MODELS[name]], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}")

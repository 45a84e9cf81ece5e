"""What monitoring knows of a model before its first look: its reference, and how it fails on corrupted copies of it.

It lies in `monitoring/` in the model's folder, beside what the manifest lists: a model's identity is its weights, and
the same model may get a better baseline from later code. It is derived from the model, its reference and this code
alone, and names all three by their hashes.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from flywheel.data.measurements import statistics
from flywheel.evaluation.corruptions import ALL_SEVERITIES, CORRUPTIONS, corrupt
from flywheel.evaluation.statistics import wilson
from flywheel.identity import code_version, digest, digest_of_file
from flywheel.model.reference import FILES, Reference
from flywheel.model.reference import FOLDER as REFERENCE
from flywheel.monitoring.accuracy_estimate import UNCHANGED, Regressor, Tried, fit_regressor
from flywheel.monitoring.breakages import BREAKAGES, broken
from flywheel.monitoring.drift import (
    FEWEST_REFERENCE,
    DriftReference,
    Floats,
    fit_drift_reference,
    input_features,
    prediction_features,
)
from flywheel.monitoring.estimators import Answered, Yardstick, features, yardstick
from flywheel.monitoring.sample import Sample, sample_of_reference
from flywheel.records import Interval, TrainedModel, from_json, to_json

FOLDER = "monitoring"
RECORD = "baseline.json"
ARRAYS = "baseline.npz"
MOST_TRIED = 500  # images of the reference that are corrupted in all ways
TRIED_WINDOWS = ((50, 4), (100, 4), (250, 3), (500, 2))  # images a window, windows a condition
MIXED = (0.3, 1.0)  # how much of a window is corrupted
CODE = (
    *(
        f"monitoring/{name}.py"
        for name in ("accuracy_estimate", "baseline", "breakages", "counts", "drift", "estimators", "sample")
    ),
    "evaluation/corruptions.py",
    "data/measurements.py",
)

Predict = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True)
class BaselineRecord:
    """What the arrays were derived from."""

    model_id: str
    weights_sha256: str
    reference_sha256: str
    code: str
    arrays_sha256: str
    images: int  # of the reference
    tried: int  # images that were corrupted in all ways
    accuracy: Interval  # on the reference


@dataclass(frozen=True)
class Baseline:
    """The reference as a window is compared with it."""

    sample: Sample
    labels: NDArray[np.int64]
    tried: NDArray[np.int64]  # rows of the images that were corrupted
    accuracy: Interval
    drift: DriftReference
    yardstick: Yardstick
    regressor: Regressor
    signatures: dict[str, Floats]  # by condition: where it moves the mean, whitened; input, then prediction
    breakages: tuple[str, ...]  # those of the conditions that are a program's mistake

    @property
    def classes(self) -> int:
        return int(self.sample.probabilities.shape[1])


def fit_baseline(
    reference: Reference, images: NDArray[np.uint8], rows: NDArray[np.int64], predict: Predict
) -> Baseline:
    """`images` uint8[P, S, S, 3] are those of the reference's `rows`, as the model sees them; `predict` gives
    calibrated logits and embeddings. Raises ValueError where they don't fit, DriftError for too small a reference."""
    if len(images) != len(rows):
        raise ValueError(f"An image a row expected, {len(images):,} images and {len(rows):,} rows found.")
    tried = _Tried(reference, images, rows, predict)
    ids = reference.ids[rows]
    conditions = {
        f"{corruption} {severity}": tried.of(corrupt(images, ids, corruption, severity))
        for corruption in CORRUPTIONS
        for severity in ALL_SEVERITIES
    }
    mistakes = {name: tried.of(broken(images, name)) for name in BREAKAGES}
    return assemble(sample_of_reference(reference), reference.labels, rows, conditions, mistakes)


def assemble(
    sample: Sample,
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    conditions: Mapping[str, Sample],
    mistakes: Mapping[str, Sample],
) -> Baseline:
    """From what the model said of its reference, and of changed copies of some of its rows: corrupted ones, by names
    that end with a severity, and those of a program's mistakes."""
    drift = fit_drift_reference(sample)
    clean, apart = sample.take(rows), _apart(sample, labels, rows, drift)
    regressor = fit_regressor(_windows(apart, clean, labels[rows], conditions))
    moved = {name: signature(drift, clean, each) for name, each in {**conditions, **mistakes}.items()}
    accuracy = _accuracy(sample, labels)
    return Baseline(sample, labels, rows, accuracy, drift, apart, regressor, moved, tuple(mistakes))


def tried_rows(reference: Reference) -> NDArray[np.int64]:
    """Which images of a reference are corrupted: half of them, at most 500, by their ids, which are hashes."""
    count = min(MOST_TRIED, len(reference.ids) // 2)
    return np.sort(np.argsort(reference.ids, kind="stable")[:count])


def signature(drift: DriftReference, before: Sample, after: Sample) -> Floats:
    """How far a change moves the mean of the same images, whitened, in both channels."""
    parts = ((drift.input, input_features), (drift.prediction, prediction_features))
    moved = [(of(after).mean(0) - of(before).mean(0)) @ channel.whitening for channel, of in parts]
    return np.concatenate(moved)


def _apart(sample: Sample, labels: NDArray[np.int64], rows: NDArray[np.int64], drift: DriftReference) -> Yardstick:
    """Of all images but those of the windows that are tried, so that these are compared as any window will be."""
    others = np.setdiff1d(np.arange(len(labels)), rows)
    beside = sample.take(others)
    enough = len(others) >= FEWEST_REFERENCE  # a small reference is no less small by halves
    answered = Answered(beside, labels[others], fit_drift_reference(beside) if enough else drift)
    return yardstick(answered, _accuracy(sample, labels), len(labels))


def _accuracy(sample: Sample, labels: NDArray[np.int64]) -> Interval:
    return wilson(int((sample.predicted == labels).sum()), len(labels))


@dataclass(frozen=True)
class _Tried:
    """Changed copies of some images, as the log would have kept them."""

    reference: Reference
    images: NDArray[np.uint8]
    rows: NDArray[np.int64]
    predict: Predict

    def of(self, changed: NDArray[np.uint8]) -> Sample:
        from flywheel.model.inference import softmax

        logits, embeddings = self.predict(changed)
        # the reference was measured before its images were packed: what is carried over is the change
        shift = statistics(changed) - statistics(self.images)
        return Sample(
            softmax(logits),
            self.reference.projection.apply(embeddings).astype(np.float16).astype(np.float32),
            (self.reference.statistics[self.rows] + shift).clip(0, 1).astype(np.float32),
        )


def _windows(
    apart: Yardstick, clean: Sample, labels: NDArray[np.int64], conditions: Mapping[str, Sample]
) -> list[Tried]:
    """Windows whose loss is known, drawn by one seed; a family is a corruption at all its severities."""
    random = np.random.default_rng(0)
    right = clean.predicted == labels
    found: list[Tried] = []
    for name, sample in {f"{UNCHANGED} 0": clean, **conditions}.items():
        family, correct = name.rpartition(" ")[0], sample.predicted == labels
        for count, windows in TRIED_WINDOWS:
            if count > max(len(labels), TRIED_WINDOWS[0][0]):
                continue
            for share in MIXED:
                lost = share * float(right.mean() - correct.mean())
                for _ in range(windows):
                    rows, changed = random.permutation(len(labels))[:count], round(share * count)
                    window = _joined(sample.take(rows[:changed]), clean.take(rows[changed:]))
                    found.append(Tried(family, features(apart, window), lost))
    return found


def _joined(one: Sample, other: Sample) -> Sample:
    return Sample(
        np.concatenate([one.probabilities, other.probabilities]),
        np.concatenate([one.embeddings, other.embeddings]),
        np.concatenate([one.statistics, other.statistics]),
    )


def write_baseline(folder: Path, baseline: Baseline, model: TrainedModel) -> None:
    """The record last, and all under another name until it is whole."""
    unfinished = folder / f".{FOLDER}.{os.getpid()}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    regressor = baseline.regressor
    names = sorted(baseline.signatures)
    arrays: dict[str, Any] = {
        **{f"drift_{name}": array for name, array in baseline.drift.to_arrays().items()},
        "regressor": np.stack([regressor.unmoved, regressor.weights]),
        "regressor_scalars": np.array([regressor.width, regressor.smallest_spread, regressor.penalty]),
        "tried": baseline.tried,
        "signatures": np.stack([baseline.signatures[name] for name in names]),
        "signature_names": np.array(names, np.str_),
        "breakages": np.array(baseline.breakages, np.str_),
    }
    np.savez(unfinished / ARRAYS, **arrays)
    record = BaselineRecord(
        model_id=model.id,
        weights_sha256=model.weights_sha256,
        reference_sha256=_reference_hash(folder),
        code=_code(),
        arrays_sha256=digest_of_file(unfinished / ARRAYS),
        images=len(baseline.labels),
        tried=len(baseline.tried),
        accuracy=baseline.accuracy,
    )
    (unfinished / RECORD).write_text(to_json(record) + "\n", encoding="utf-8")
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    try:
        unfinished.replace(folder / FOLDER)
    except OSError:
        if not (folder / FOLDER / RECORD).is_file():
            raise
        shutil.rmtree(unfinished)  # another monitor made it meanwhile, of the same files by the same code


def read_baseline(folder: Path, model: TrainedModel, reference: Reference) -> Baseline | None:
    """None where there is none, or one of another model, another reference or other code: it is made again then."""
    try:
        record = from_json(BaselineRecord, (folder / FOLDER / RECORD).read_bytes())
    except (OSError, ValidationError):
        return None
    wanted = (model.id, model.weights_sha256, _reference_hash(folder), _code())
    file = folder / FOLDER / ARRAYS
    if (record.model_id, record.weights_sha256, record.reference_sha256, record.code) != wanted:
        return None
    if not file.is_file() or digest_of_file(file) != record.arrays_sha256:
        return None
    with np.load(file, allow_pickle=False) as arrays:
        return _baseline(dict(arrays), reference, record)


def _baseline(arrays: dict[str, NDArray[Any]], reference: Reference, record: BaselineRecord) -> Baseline:
    head = "drift_"
    drift = DriftReference.from_arrays(
        {name.removeprefix(head): array for name, array in arrays.items() if name.startswith(head)}
    )
    unmoved, weights = arrays["regressor"]
    width, smallest, penalty = map(float, arrays["regressor_scalars"])
    sample = sample_of_reference(reference)
    names = map(str, arrays["signature_names"])
    return Baseline(
        sample,
        reference.labels,
        arrays["tried"],
        record.accuracy,
        drift,
        _apart(sample, reference.labels, arrays["tried"], drift),
        Regressor(unmoved, weights, width, smallest, penalty),
        dict(zip(names, arrays["signatures"], strict=True)),
        tuple(map(str, arrays["breakages"])),
    )


def _reference_hash(folder: Path) -> str:
    return digest([digest_of_file(folder / REFERENCE / f"{name}.npy") for name in FILES])


def _code() -> str:
    return code_version(Path(__file__).resolve().parent.parent, CODE)

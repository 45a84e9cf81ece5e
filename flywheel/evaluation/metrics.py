"""What a model's logits on labelled images are worth: pure numpy, no model and no disk.

Everywhere `logits` is float[N, C], `labels` is int[N] with values in 0..C-1, and row i of both is the same image.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.evaluation.statistics import majority_rate, wilson
from flywheel.records import ClassResult, Interval

ECE_BINS = 15  # as in Guo et al. 2017, so that figures compare with the literature
# Part of an evaluation's identity: other settings or another formula make another evaluation.
METRIC_SETTINGS = {"interval": "wilson", "confidence": 0.95, "ece_bins": ECE_BINS, "formulas": 1}

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]


class MetricsError(ValueError):
    """Logits or labels that no metric can be computed from."""


@dataclass(frozen=True)
class Metrics:
    """All measures of one model on one evaluation set."""

    images: int
    top1: Interval
    majority_rate: float
    classes: tuple[ClassResult, ...]
    confusion: tuple[tuple[int, ...], ...]  # [true][predicted]
    ece: float
    nll: float  # nats an image


@dataclass(frozen=True)
class ReliabilityBin:
    """The predictions whose confidence lies in (low, high]. Means are 0 where the bin is empty."""

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


def measure(logits: Floats, labels: Integers, classes: tuple[str, ...]) -> Metrics:
    """Every measure at once. Raises MetricsError when the arrays are empty, misshapen or not finite."""
    check(logits, labels, len(classes))
    matrix = confusion_matrix(logits, labels)
    return Metrics(
        images=len(labels),
        top1=top1(logits, labels),
        majority_rate=majority_rate(matrix.sum(axis=1).tolist()),
        classes=class_results(matrix, classes),
        confusion=tuple(tuple(row) for row in matrix.tolist()),
        ece=expected_calibration_error(reliability(logits, labels)),
        nll=negative_log_likelihood(logits, labels),
    )


def check(logits: Floats, labels: Integers, classes: int | None = None) -> None:
    """Raise MetricsError, naming what is wrong, unless the arrays are what this module expects."""
    if logits.ndim != 2 or labels.ndim != 1 or len(logits) != len(labels):
        raise MetricsError(f"logits [N, C] and labels [N] expected, {logits.shape} and {labels.shape} found.")
    if len(labels) == 0:
        raise MetricsError("No images to measure: the evaluation set is empty.")
    if classes is not None and logits.shape[1] != classes:
        raise MetricsError(f"Logits of {classes} classes expected, {logits.shape[1]} found.")
    broken = int((~np.isfinite(logits)).any(axis=1).sum())
    if broken:
        raise MetricsError(f"{broken:,} of {len(labels):,} images have logits that are NaN or infinite. Train again.")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise MetricsError(
            f"Labels are integers 0..{logits.shape[1] - 1}; {labels.dtype} {labels.min()}..{labels.max()} found."
        )


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """float64[N, C]; the row's maximum is taken off first, so that large logits don't overflow."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_sum: NDArray[np.float64] = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    result: NDArray[np.float64] = shifted - log_sum
    return result


def confidences(logits: Floats) -> NDArray[np.float64]:
    """The softmax of each image's answer, float64[N]."""
    largest: NDArray[np.float64] = np.exp(log_softmax(logits).max(axis=1))
    return largest


def top1(logits: Floats, labels: Integers) -> Interval:
    """The share of images whose largest logit is their label's (the first one's, in a tie)."""
    check(logits, labels)
    return wilson(int((logits.argmax(axis=1) == labels).sum()), len(labels))


def confusion_matrix(logits: Floats, labels: Integers) -> NDArray[np.int64]:
    """int64[C, C], [true][predicted]."""
    check(logits, labels)
    size = logits.shape[1]
    cells = labels.astype(np.int64) * size + logits.argmax(axis=1)
    return np.bincount(cells, minlength=size * size).reshape(size, size).astype(np.int64)


def class_results(confusion: NDArray[np.int64], classes: tuple[str, ...]) -> tuple[ClassResult, ...]:
    """Recall with its interval and precision of each class.

    A class without images has recall 0 in [0, 1]: nothing is known. One that is never predicted has precision 0.
    """
    hits, images, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    return tuple(
        ClassResult(
            label=label,
            images=int(images[i]),
            recall=wilson(int(hits[i]), int(images[i])) if images[i] else Interval(0.0, 0.0, 1.0),
            precision=float(hits[i] / predicted[i]) if predicted[i] else 0.0,
        )
        for i, label in enumerate(classes)
    )


def negative_log_likelihood(logits: Floats, labels: Integers) -> float:
    """Mean −log softmax of the true class, in nats an image."""
    check(logits, labels)
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def reliability(logits: Floats, labels: Integers, bins: int = ECE_BINS) -> tuple[ReliabilityBin, ...]:
    """Confidence against accuracy in equal-width bins ((m-1)/M, m/M] of confidence (Guo et al. 2017)."""
    check(logits, labels)
    confidence = confidences(logits)
    correct = logits.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    images = np.bincount(place, minlength=bins)
    filled = np.maximum(images, 1)
    mean_confidence = np.bincount(place, weights=confidence, minlength=bins) / filled
    accuracy = np.bincount(place, weights=correct, minlength=bins) / filled
    return tuple(
        ReliabilityBin(m / bins, (m + 1) / bins, int(images[m]), float(mean_confidence[m]), float(accuracy[m]))
        for m in range(bins)
    )


def expected_calibration_error(bins: tuple[ReliabilityBin, ...]) -> float:
    """Σ n_m / N · |accuracy_m − confidence_m| (Guo et al. 2017)."""
    images = sum(part.images for part in bins)
    if images == 0:
        raise MetricsError("No images in any confidence bin: calibration needs at least one.")
    return sum(part.images * abs(part.accuracy - part.confidence) for part in bins) / images


def confident_mistakes(logits: Floats, labels: Integers, limit: int) -> NDArray[np.int64]:
    """Row positions of the wrong answers, int64[≤ limit], the most confident first."""
    check(logits, labels)
    wrong = np.flatnonzero(logits.argmax(axis=1) != labels)
    order = np.argsort(-confidences(logits)[wrong], kind="stable")
    return wrong[order[:limit]].astype(np.int64)

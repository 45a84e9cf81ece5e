"""What a window says of its accuracy without a label: one number an estimator, all of them against the reference.

Each is blind to something. Confidence stays high under noise, and corruption looks like a shift of labels; so several
are taken, and where they disagree the answer is "uncertain".
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.monitoring.drift import (
    TINY,
    ChannelReference,
    DriftReference,
    prediction_features,
    t_squared,
)
from flywheel.monitoring.sample import Sample
from flywheel.records import Interval

Floats = NDArray[np.float64]

MOST_COLUMNS = 64
FEATURES = (
    "accuracy lost by ATC",
    "largest KS of a class's probability",
    "distance of the predicted classes",
    "effect on the predictions",
)


@dataclass(frozen=True)
class Answered:
    """A labelled sample, as the estimators compare with it."""

    sample: Sample
    labels: NDArray[np.int64]
    drift: DriftReference

    @property
    def correct(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.sample.predicted == self.labels
        return found

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())


@dataclass(frozen=True)
class Yardstick:
    """What is kept of a part of the reference, so that a window is compared in a millisecond. The regressor learned by
    how the other part differs from this one, so a window has to be compared with this one, too."""

    accuracy: float  # on the whole reference
    images: int  # of the whole
    own_accuracy: float  # on this part
    confidence: float
    line: float  # of entropy: as many of the reference lie below it as are right (ATC)
    columns: NDArray[np.int64]  # the classes whose probabilities are compared: those most often answered, 64 at most
    probabilities: Floats  # [R, len(columns)], each column sorted
    shares: Floats  # [C], of the predicted classes
    drift: DriftReference


def yardstick(answered: Answered, whole: Interval, images: int) -> Yardstick:
    """After Garg et al. 2022 ("Leveraging unlabeled data to predict out-of-distribution performance") for ATC, Guillory
    et al. 2021 for the difference of confidences, Rabanser et al. 2019 for the tests on the softmax."""
    probabilities = answered.sample.probabilities.astype(np.float64)
    entropies = entropy(probabilities)
    shares = np.bincount(answered.sample.predicted, minlength=probabilities.shape[1]) / len(probabilities)
    columns = np.sort(np.argsort(-shares, kind="stable")[:MOST_COLUMNS])
    return Yardstick(
        accuracy=whole.value,
        images=images,
        own_accuracy=answered.accuracy,
        confidence=float(probabilities.max(1).mean()),
        line=float(np.quantile(entropies, answered.accuracy)),
        columns=columns,
        probabilities=np.sort(probabilities[:, columns], axis=0),
        shares=shares,
        drift=answered.drift,
    )


def entropy(probabilities: Floats) -> Floats:
    found: Floats = -(probabilities * np.log(np.maximum(probabilities, TINY))).sum(1)
    return found


def doc(reference: Yardstick, window: Sample) -> float:
    """Accuracy by the difference of confidences."""
    return _share(reference.accuracy + float(window.probabilities.max(1).mean()) - reference.confidence)


def atc(reference: Yardstick, window: Sample) -> float:
    """Accuracy as the share of images whose entropy lies below the reference's line."""
    below = float((entropy(window.probabilities.astype(np.float64)) <= reference.line).mean())
    return _share(reference.accuracy + below - reference.own_accuracy)


def features(reference: Yardstick, window: Sample) -> Floats:
    """float64[4], FEATURES; what chance alone would give at this size is taken off."""
    probabilities = window.probabilities.astype(np.float64)
    count, classes = probabilities.shape
    chance = np.sqrt(1 / count + 1 / len(reference.probabilities))
    columns = [
        ks(known, probabilities[:, column])
        for known, column in zip(reference.probabilities.T, reference.columns, strict=True)
    ]
    shares = np.bincount(window.predicted, minlength=classes) / count
    distance = np.abs(shares - reference.shares).sum() / 2
    expected = np.sqrt(reference.shares * (1 - reference.shares) * (2 / np.pi) * chance**2).sum() / 2
    found = [
        reference.accuracy - atc(reference, window),
        max(0.0, max(columns) - chance),
        max(0.0, distance - expected),
        effect(reference.drift.prediction, prediction_features(window)),
    ]
    return np.array(found, np.float64)


def effect(channel: ChannelReference, values: Floats) -> float:
    """How far the mean lies off, in standard deviations of one image, without what chance gives."""
    found = float(t_squared(channel, values.mean(0), len(values))) / len(values)
    return float(np.sqrt(max(0.0, found - channel.dimensions * (1 / len(values) + 1 / channel.images))))


def ks(reference: Floats, values: Floats) -> float:
    """Kolmogorov and Smirnov's distance of a sample to a sorted one."""
    ordered = np.sort(values)
    places = np.concatenate([reference, ordered])
    below = np.searchsorted(reference, places, side="right") / len(reference)
    return float(np.abs(below - np.searchsorted(ordered, places, side="right") / len(ordered)).max())


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))

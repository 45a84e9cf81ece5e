"""Has what the model sees moved? Two channels, each one test of a window's mean against the reference's.

The *input* channel is what is measured of the images and their embeddings, the *prediction* channel what the model
said. Each is Hotelling's T² (1931), with what thousands of looks at one reference demand beside it:

- The reference is finite, and its error never averages out over looks. So the null is not "the window's mean is the
  reference's" but "it lies no further from it than the reference's own error reaches": T² is compared with a noncentral
  chi-squared whose noncentrality is the 1 - η quantile of that error, N · χ²(d, 1 - η) / R. With probability 1 - η over
  the reference, all p-values of a life are valid together.
- Whitening by an estimated covariance stretches T² by weights that follow Marchenko and Pastur (1967). Heavy tails
  widen it: its variance is 2d + (Mardia's kurtosis, 1970, in excess) / N. Both are matched by a scale and degrees of
  freedom (Satterthwaite 1946). The scale has an error of its own, taken at its 1 - η quantile too, by how much the
  reference's squared lengths vary. A model that is nearly always sure has the heaviest tails: a rare doubt is far off.
- Of what the model said, directions in which the reference hardly varies are left out: what lies there is a handful of
  images. Where that leaves few, as with a model that is nearly always sure, its answers are counted instead (`counts`).
- A window may be of any size, also larger than the reference: what grows with it is the noncentrality.
- `alarm` believes no p below a floor.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chndtr, chndtrinc
from scipy.stats import chi2, norm

from flywheel.data.measurements import STATISTICS
from flywheel.evaluation.statistics import holm
from flywheel.monitoring.counts import CountsReference, effect_of_counts, events, fit_counts, p_of_counts
from flywheel.monitoring.sample import Sample

Floats = NDArray[np.float64]

INPUT, PREDICTION = "input", "prediction"
SUM_OF_OTHERS = STATISTICS.index("brightness")  # of red, green and blue, so it is left out beside them
MOST_EMBEDDING, MOST_PROBABILITIES = 32, 16  # dimensions
ROWS_A_DIMENSION = 25  # of the reference, and behind the variance of each: fewer leave mostly noise
FEWEST_REFERENCE = 50
REFERENCE_ERROR = 0.005  # η: the chance that a channel's reference lies further from the truth than is reckoned with
CONFIDENCE = 0.95  # of intervals
SMALLEST_WIDTH = 0.1  # variance of a direction of the predictions, where all features have 1
SMALLEST_DEVIATION = 1e-6  # a feature that hardly varies is no feature
TINY = 1e-12  # of a probability, before its logarithm


class DriftError(ValueError):
    """What can't be compared; the message says why."""


@dataclass(frozen=True)
class ChannelReference:
    """How a channel's features become independent numbers of variance 1 around 0, on the reference."""

    name: str
    mean: Floats  # [F]
    whitening: Floats  # [F, d]
    images: int  # R
    stretch: float  # by which the squared lengths of the whole world may be larger than those of the reference
    kurtosis: float  # Mardia's, beyond a normal's

    @property
    def dimensions(self) -> int:
        return int(self.whitening.shape[1])


@dataclass(frozen=True)
class DriftReference:
    """All that a window is compared with."""

    input: ChannelReference
    prediction: ChannelReference  # of no dimension where the answers are counted instead
    counts: CountsReference
    statistics_mean: Floats  # [7]
    statistics_deviation: Floats  # [7]
    images: int

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {
            "statistics_mean": self.statistics_mean,
            "statistics_deviation": self.statistics_deviation,
            "images": np.array(self.images),
        }
        for channel in (self.input, self.prediction):
            arrays[f"{channel.name}_mean"], arrays[f"{channel.name}_whitening"] = channel.mean, channel.whitening
            arrays[f"{channel.name}_tails"] = np.array([channel.stretch, channel.kurtosis])
        counts = {
            "counts": self.counts.counts,
            "counts_fewest": self.counts.fewest,
            "counts_doubts": self.counts.doubts,
        }
        return arrays | counts

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> "DriftReference":
        images = int(arrays["images"])
        of_input, of_prediction = (
            ChannelReference(
                name, arrays[f"{name}_mean"], arrays[f"{name}_whitening"], images, *map(float, arrays[f"{name}_tails"])
            )
            for name in (INPUT, PREDICTION)
        )
        counts = CountsReference(arrays["counts"], arrays["counts_fewest"], arrays["counts_doubts"], images)
        return cls(of_input, of_prediction, counts, arrays["statistics_mean"], arrays["statistics_deviation"], images)


@dataclass(frozen=True)
class Channel:
    """How far a window's mean lies from the reference's, in standard deviations of one image, and what that says."""

    name: str
    p: float  # valid for a fixed reference
    effect: float
    effect_low: float
    effect_high: float


@dataclass(frozen=True)
class StatisticShift:
    """One image statistic, in the window and in the reference."""

    name: str
    reference: float
    window: float
    low: float  # of the difference, 95 %
    high: float
    p: float
    moved: bool  # with the chance of any wrong one of the seven within 5 % (Holm)


@dataclass(frozen=True)
class Drift:
    """What was measured of a window; nothing is decided."""

    images: int
    input: Channel
    prediction: Channel
    statistics: tuple[StatisticShift, ...]

    @property
    def channels(self) -> tuple[Channel, ...]:
        return self.input, self.prediction


def fit_drift_reference(reference: Sample) -> DriftReference:
    """Raises DriftError for a reference of too few images or of numbers that are none."""
    if len(reference) < FEWEST_REFERENCE:
        raise DriftError(
            f"A reference of {FEWEST_REFERENCE} images or more expected, one of {len(reference)} found: train on more "
            "images, since a tenth of them become the reference."
        )
    demand_finite(reference)
    statistics = reference.statistics.astype(np.float64)
    most = max(2, len(reference) // ROWS_A_DIMENSION)
    return DriftReference(
        _fit(INPUT, input_features(reference), most),
        _fit(PREDICTION, prediction_features(reference), most),
        fit_counts(reference.probabilities),
        statistics.mean(0),
        statistics.std(0, ddof=1),
        len(reference),
    )


def measure_drift(reference: DriftReference, window: Sample) -> Drift:
    """Raises DriftError for a window of fewer than two images or of numbers that are none."""
    if len(window) < 2:
        raise DriftError(f"A window of two images or more expected, one of {len(window)} found.")
    demand_finite(window)
    return Drift(
        len(window),
        _compare(reference.input, input_features(window)),
        _compare(reference.prediction, prediction_features(window))
        if reference.prediction.dimensions
        else _counted(reference.counts, window),
        _shifts(reference, window.statistics.astype(np.float64)),
    )


def demand_finite(sample: Sample) -> None:
    for name in ("probabilities", "embeddings", "statistics"):
        if not np.isfinite(getattr(sample, name)).all():
            raise DriftError(f"The {name} of {len(sample):,} images hold numbers that are none: nothing is compared.")


def input_features(sample: Sample) -> Floats:
    """float64[N, F]: image statistics, and the widest components of the embedding."""
    statistics = np.delete(sample.statistics, SUM_OF_OTHERS, axis=1)
    return np.hstack([statistics, sample.embeddings[:, :MOST_EMBEDDING]]).astype(np.float64)


def prediction_features(sample: Sample) -> Floats:
    """float64[N, C + 1]: the probabilities but for the last, which the others give, confidence and entropy."""
    probabilities = sample.probabilities.astype(np.float64)
    entropy = -(probabilities * np.log(np.maximum(probabilities, TINY))).sum(1, keepdims=True)
    return np.hstack([probabilities[:, :-1], probabilities.max(1, keepdims=True), entropy])


def t_squared(channel: ChannelReference, means: Floats, images: int) -> Floats:
    """Of window means float64[W, F] of so many images each."""
    found: Floats = images * (((means - channel.mean) @ channel.whitening) ** 2).sum(-1)
    return found


def p_values(channel: ChannelReference, found: Floats, images: int) -> Floats:
    """How often a window of this many images would lie so far off, for the worst reference but η of all."""
    scale, freedom, noncentrality = _null(channel, images)
    p: Floats = np.clip(1 - chndtr(np.asarray(found) / scale, freedom, noncentrality / scale), 0.0, 1.0)
    return p


def _null(channel: ChannelReference, images: int) -> tuple[float, float, float]:
    """Scale, degrees of freedom, and the noncentrality before it is scaled."""
    crowding = channel.dimensions / channel.images  # Marchenko and Pastur's ratio
    wider, wider_reference = (
        1 + channel.kurtosis / (2 * channel.dimensions * count) for count in (images, channel.images)
    )
    error = wider_reference * chi2.ppf(1 - REFERENCE_ERROR, channel.dimensions / wider_reference) / channel.images
    scale = channel.stretch * wider / (1 - crowding) ** 2
    return scale, channel.dimensions * (1 - crowding) / wider, images * float(error) / (1 - crowding)


def _fit(name: str, features: Floats, most: int) -> ChannelReference:
    """Whitened by the eigenvectors of the correlation, the widest first; those of hardly any width are left out, and of
    the predictions all where few are left. Raises DriftError where the images tell of nothing."""
    mean, deviation = features.mean(0), features.std(0, ddof=1)
    behind = min(ROWS_A_DIMENSION, len(features) // 4)  # a normal column of few rows has no more
    varies = (deviation > SMALLEST_DEVIATION) & (rows_behind(features - mean) >= behind)
    if name == INPUT and not varies.any():
        raise DriftError(f"Too few images of the reference differ in their {name}: drift can't be told.")
    scaled = np.where(varies, 1 / np.where(varies, deviation, 1), 0)
    standard = (features - mean) * scaled
    widths, vectors = np.linalg.eigh(standard.T @ standard / (len(features) - 1))
    dimensions = MOST_EMBEDDING + len(STATISTICS) if name == INPUT else MOST_PROBABILITIES
    order = np.argsort(widths)[::-1][: min(most, dimensions)]
    order = order[widths[order] > (SMALLEST_WIDTH if name == PREDICTION else SMALLEST_DEVIATION)]
    order = order[rows_behind(standard @ vectors[:, order]) >= behind]
    if name == INPUT and not len(order):
        raise DriftError(f"Too few images of the reference differ in their {name}: drift can't be told.")
    if name == PREDICTION and 2 * len(order) < min(most, dimensions, features.shape[1]):
        return ChannelReference(name, mean, np.zeros((features.shape[1], 0)), len(features), 1.0, 0.0)
    whitening = scaled[:, None] * vectors[:, order] / np.sqrt(widths[order])
    squared = (((features - mean) @ whitening) ** 2).sum(1)
    error = float(squared.std(ddof=1)) / (squared.mean() * np.sqrt(len(features)))
    stretch = 1 + float(norm.ppf(1 - REFERENCE_ERROR)) * error
    kurtosis = max(0.0, float((squared**2).mean()) - len(order) * (len(order) + 2))
    return ChannelReference(name, mean, whitening, len(features), stretch, kurtosis)


def rows_behind(centred: Floats) -> Floats:
    """How many rows the variance of each column rests on: (Σ x²)² / Σ x⁴, a third of all for a normal one.

    A model that is nearly always sure has a handful of doubts: they are no measure of what is usual.
    """
    squares = centred**2
    found: Floats = squares.sum(0) ** 2 / np.maximum((squares**2).sum(0), 1e-300)
    return found


def _compare(channel: ChannelReference, features: Floats) -> Channel:
    images = len(features)
    found = float(t_squared(channel, features.mean(0), images))
    (p,) = p_values(channel, np.array([found]), images)
    scale, freedom, _ = _null(channel, images)
    low, high = (
        _noncentrality(found / scale, freedom, level) for level in ((1 + CONFIDENCE) / 2, (1 - CONFIDENCE) / 2)
    )
    middle = _noncentrality(found / scale, freedom, 0.5)
    effect, effect_low, effect_high = (float(np.sqrt(each * scale / images)) for each in (middle, low, high))
    return Channel(channel.name, float(p), effect, effect_low, effect_high)


def _counted(reference: CountsReference, window: Sample) -> Channel:
    counts, images = events(reference, window.probabilities).sum(0), len(window)
    (p,) = p_of_counts(reference, counts[None], images, REFERENCE_ERROR)
    return Channel(PREDICTION, float(p), *effect_of_counts(reference, counts, images))


def _noncentrality(found: float, freedom: float, level: float) -> float:
    """That under which so much or less is found with this probability; 0 where even none makes more likely."""
    if chndtr(found, freedom, 0.0) <= level:
        return 0.0
    solved = float(chndtrinc(found, freedom, level))
    return solved if np.isfinite(solved) else found


def _shifts(reference: DriftReference, statistics: Floats) -> tuple[StatisticShift, ...]:
    window, deviation = statistics.mean(0), statistics.std(0, ddof=1)
    error = np.sqrt(deviation**2 / len(statistics) + reference.statistics_deviation**2 / reference.images)
    difference = window - reference.statistics_mean
    error = np.maximum(error, SMALLEST_DEVIATION)
    p = 2 * norm.sf(np.abs(difference) / error)
    reach = norm.ppf((1 + CONFIDENCE) / 2) * error
    moved = holm(p.tolist(), 1 - CONFIDENCE)
    return tuple(
        StatisticShift(
            name,
            float(reference.statistics_mean[place]),
            float(window[place]),
            float(difference[place] - reach[place]),
            float(difference[place] + reach[place]),
            float(p[place]),
            moved[place],
        )
        for place, name in enumerate(STATISTICS)
    )

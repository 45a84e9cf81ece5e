"""How often each class was answered, and how often in doubt, against the reference's counts: exact at any size.

A model that is nearly always sure leaves means that a handful of doubts decide; no normal or chi-squared tells their
tails. Counts are binomial whatever the model is. The reference bounds each event's chance from both sides (Clopper and
Pearson 1934), all bounds together true but with probability η; a window's counts are judged by the binomial's tails at
these bounds, and the smallest p by Bonferroni. What is bought is validity at any size, what it costs is power: `drift`
takes it only where its own test has too little to stand on.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrc, betaincinv

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

DOUBTFUL = (0.05, 0.2, 0.5)  # of the reference: its images of most doubt
Z = 1.96  # of a 95 % interval


@dataclass(frozen=True)
class CountsReference:
    """Events are the classes, then the doubts at or above each of `doubts`."""

    counts: Counts  # [E]
    fewest: Counts  # [E]: without the ties at a bound that was chosen by its rank
    doubts: Floats  # [len(DOUBTFUL)], falling
    images: int


def fit_counts(probabilities: NDArray[np.float32]) -> CountsReference:
    images = len(probabilities)
    ranks = np.ceil(np.array(DOUBTFUL) * images).astype(np.int64)
    bounds = np.sort(_doubt(probabilities))[::-1][ranks - 1]
    counts = _events(probabilities, bounds).sum(0)
    return CountsReference(counts, np.concatenate([counts[: -len(ranks)], ranks]), bounds, images)


def events(reference: CountsReference, probabilities: NDArray[np.float32]) -> NDArray[np.bool_]:
    """bool[N, E]: what happened with each image."""
    return _events(probabilities, reference.doubts)


def p_of_counts(reference: CountsReference, counts: Counts, images: int, error: float) -> Floats:
    """Of windows int64[W, E] of so many images each; `error` is η."""
    low, high = _bounds(reference, error)
    often = np.where(counts > 0, bdtrc(np.maximum(counts - 1, 0).astype(np.float64), images, high), 1.0)
    seldom = bdtr(counts.astype(np.float64), images, low)
    found: Floats = np.minimum(1.0, 2 * counts.shape[-1] * np.minimum(often, seldom).min(-1))
    return found


def effect_of_counts(reference: CountsReference, counts: Counts, images: int) -> tuple[float, float, float]:
    """The event that moved most against its error: by how many of its standard deviations, with a 95 % interval."""
    usual, seen = (reference.counts + 0.5) / (reference.images + 1), (counts + 0.5) / (images + 1)
    width, difference = np.sqrt(usual * (1 - usual)), np.abs(counts / images - reference.counts / reference.images)
    error = np.sqrt(usual * (1 - usual) / reference.images + seen * (1 - seen) / images)
    place = int((difference / error).argmax())
    low, high = (max(0.0, float(difference[place] + side * Z * error[place])) for side in (-1, 1))
    return float(difference[place] / width[place]), low / float(width[place]), high / float(width[place])


def _bounds(reference: CountsReference, error: float) -> tuple[Floats, Floats]:
    """Clopper and Pearson's, of each event's chance."""
    level, images = error / (2 * len(reference.counts)), reference.images
    few, many = reference.fewest.astype(np.float64), reference.counts.astype(np.float64)
    low = np.where(few > 0, betaincinv(np.maximum(few, 1), images - few + 1, level), 0.0)
    high = np.where(many < images, betaincinv(many + 1, np.maximum(images - many, 1), 1 - level), 1.0)
    return low, high


def _events(probabilities: NDArray[np.float32], bounds: Floats) -> NDArray[np.bool_]:
    classes = np.arange(probabilities.shape[1])
    return np.hstack([probabilities.argmax(1)[:, None] == classes, _doubt(probabilities)[:, None] >= bounds])


def _doubt(probabilities: NDArray[np.float32]) -> Floats:
    """The probability of all but the likeliest class, added up, since 1 minus the largest would lose what is small."""
    others = probabilities.astype(np.float64)
    others[np.arange(len(others)), probabilities.argmax(1)] = 0
    found: Floats = others.sum(1)
    return found

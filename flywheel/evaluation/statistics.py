"""Measured shares with their uncertainty."""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flywheel.records import Interval

CONFIDENCE = 0.95


def wilson(successes: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """The share of successes with its score interval (Wilson 1927).

    Unlike value ± z·s it stays inside 0..1 and keeps its coverage at shares near 0 and 1, where good models live.
    Raises ValueError where there is no trial, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes of {trials} trials: 0 ≤ successes ≤ trials and a trial are expected.")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    shrink = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / shrink
    half = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / shrink
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(value=share, low=low, high=high)


def majority_rate(counts: list[int]) -> float:
    """What a constant answer scores: the share of the most common class. Raises ValueError on no images."""
    if not counts or sum(counts) == 0:
        raise ValueError("No images in any class: a majority rate needs at least one.")
    return max(counts) / sum(counts)


def paired_difference(
    both: int, only_first: int, only_second: int, neither: int, confidence: float = CONFIDENCE
) -> Interval:
    """The first model's top-1 minus the second's on the same images, from the counts of images that each got right.

    Newcombe's hybrid score interval for paired shares with its correction of the correlation (Newcombe 1998, "Improved
    confidence intervals for the difference between binomial proportions based on paired data", method 10): it keeps
    its coverage where the two models agree almost always. Raises ValueError for negative counts or no image.
    """
    total = both + only_first + only_second + neither
    if min(both, only_first, only_second, neither) < 0 or total == 0:
        raise ValueError(
            f"{both}, {only_first}, {only_second}, {neither} images: counts from 0 on and an image are expected."
        )
    first = wilson(both + only_first, total, confidence)
    second = wilson(both + only_second, total, confidence)
    phi = _correlation(both, only_first, only_second, neither)
    difference = (only_first - only_second) / total
    below, above = first.value - first.low, second.high - second.value
    low = difference - sqrt(max(0.0, below**2 - 2 * phi * below * above + above**2))
    below, above = second.value - second.low, first.high - first.value
    high = difference + sqrt(max(0.0, below**2 - 2 * phi * below * above + above**2))
    return Interval(value=difference, low=max(-1.0, low), high=min(1.0, high))


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Of the two models' being right; a positive one is corrected for continuity, and 0 where one is always right."""
    spread = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if spread == 0:
        return 0.0
    excess = both * neither - only_first * only_second
    if excess > 0:
        excess_corrected = max(0.0, excess - (both + only_first + only_second + neither) / 2)
    else:
        excess_corrected = float(excess)
    return excess_corrected / sqrt(spread)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """How probable so many images that only the first model got right are, where neither model is better.

    The exact one-sided test (McNemar 1947): of the images on which the two differ, each is the first's with
    probability 1/2. Its size never exceeds its level, at any number of images. 1.0 where they never differ.
    """
    _check_counts(only_first, only_second)
    from scipy.stats import binom

    return float(binom.sf(only_first - 1, only_first + only_second, 0.5))


def noninferiority_p(only_first: int, only_second: int, images: int, margin: float) -> float:
    """How probable a difference as good as this one is, where the first model is worse by the margin.

    One-sided, by the score statistic of a paired difference (Tango 1998, "Equivalence test and confidence interval for
    the difference in proportions for the paired-sample design"). Its exact size, by enumeration over n = 1,000 to
    8,000 images, disagreements of 3 to 35 % and levels of .05 to .0001, is at most 1.002 times its level.
    """
    _check_counts(only_first, only_second, images)
    return NormalDist().cdf(-float(score(only_first, only_second, images, -margin)))


def loss_p(only_first: int, only_second: int, images: int, margin: float) -> float:
    """How probable a difference as bad as this one is, where the first model is worse by just the margin."""
    _check_counts(only_first, only_second, images)
    return NormalDist().cdf(float(score(only_first, only_second, images, -margin)))


def score(only_first: ArrayLike, only_second: ArrayLike, images: int, difference: float) -> NDArray[np.float64]:
    """Tango's statistic of the null that first minus second is `difference`; normal where it is, for many images.

    The nuisance, the share that only the second gets right, is its maximum likelihood estimate under the null.
    """
    first, second = np.asarray(only_first, np.float64), np.asarray(only_second, np.float64)
    linear = -first - second + (2 * images - first + second) * difference
    constant = -second * difference * (1 - difference)
    nuisance = (np.sqrt(np.maximum(linear * linear - 8 * images * constant, 0)) - linear) / (4 * images)
    variance = images * (2 * nuisance + difference * (1 - difference))
    excess = first - second - images * difference
    # no spread at all: the null is met exactly, or is impossible
    certain = np.where(excess == 0, 0.0, np.copysign(np.inf, excess))
    usual = excess / np.sqrt(np.where(variance > 0, variance, 1.0))
    return np.asarray(np.where(variance > 0, usual, certain))


def holm(p_values: Sequence[float], level: float) -> tuple[bool, ...]:
    """Which nulls are rejected with at most `level` as the chance of any false rejection (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    rejected = [False] * len(p_values)
    for rank, place in enumerate(order):
        if not p_values[place] <= level / (len(p_values) - rank):  # NaN rejects nothing
            break
        rejected[place] = True
    return tuple(rejected)


def _check_counts(only_first: int, only_second: int, images: int | None = None) -> None:
    total = only_first + only_second if images is None else images
    if min(only_first, only_second) < 0 or only_first + only_second > total or (images is not None and images < 1):
        raise ValueError(f"{only_first} and {only_second} of {images} images: counts that fit were expected.")

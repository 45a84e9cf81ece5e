"""Measured shares with their uncertainty."""

from math import sqrt
from statistics import NormalDist

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

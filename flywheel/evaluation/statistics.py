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

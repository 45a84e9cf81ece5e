"""How far two means lie apart, by an interval that holds at every look at once, however often one looks.

A mean is held against the data by a number that is 1 at most on average if it is the true one, whenever one stops: a
nonnegative supermartingale, so by Ville's inequality (1939) it ever reaches 1 / α with probability α at most. Of two
samples the product is such a number for both true means, so the pairs of means that it has not refuted are a confidence
sequence (Howard, Ramdas, McAuliffe and Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences"),
and their differences are one of the difference. Nothing is assumed but that a mean is the same at every answer; nothing
is asymptotic. Only sums are needed, so nothing is kept between looks.
"""

from math import log

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

Floats = NDArray[np.float64]

# The means that are held against the data, closest where a share is near 0 or 1; interval ends are rounded outwards.
CELLS = 1_000
MEANS: Floats = np.sin(np.pi * (np.arange(CELLS) + 0.5) / (2 * CELLS)) ** 2
LOG_MEANS, LOG_REST = np.log(MEANS), np.log1p(-MEANS)
BELOW, ABOVE = np.concatenate([[0.0], MEANS[:-1]]), np.concatenate([MEANS[1:], [1.0]])

# Bets that each is believed in as much as the next: small ones tell small differences of many values, large ones soon
# tell large ones. λ / (1 + λr) never loses everything on values that lie r below their mean at most.
BETS: Floats = np.geomspace(0.1, 50, 12)[:, None]
REACHES = {"higher": MEANS, "lower": 1 - MEANS}
GAINS = {side: BETS / (1 + BETS * reach) for side, reach in REACHES.items()}
PRICES = {side: GAINS[side] / reach - np.log1p(BETS * reach) / reach**2 for side, reach in REACHES.items()}


def evidence_of_share(successes: int, trials: int, prior: tuple[float, float]) -> Floats:
    """float64[CELLS]: the logarithm of the evidence against each mean, from successes in independent trials.

    The mean likelihood of all shares under a beta prior, over that of the share itself (Robbins 1970, "Statistical
    methods related to the law of the iterated logarithm"). It holds for any prior; one near the truth tells sooner.
    """
    rarer, other = prior
    failures = trials - successes
    mixed = float(betaln(successes + rarer, failures + other) - betaln(rarer, other))
    found: Floats = mixed - successes * LOG_MEANS - failures * LOG_REST
    return found


def evidence_of_mean(total: float, squares: float, count: int) -> Floats:
    """float64[CELLS]: the same from values within 0 to 1, by their sum and their sum of squares.

    The wealth of bets that the mean is higher, and that it is lower (Waudby-Smith and Ramdas 2023, "Estimating means of
    bounded random variables by betting"). As 1 + λx ≥ exp(λx + x² (log(1 - λ) + λ)) for x ≥ -1 and λ in 0...1 (Fan,
    Grama and Liu 2015, "Exponential inequalities for martingales with applications"), that of a bet λ is at least what
    the sums tell. Values that vary little tell sooner, as with an empirical Bernstein bound.
    """
    excess = total - count * MEANS
    spread = np.maximum(squares - 2 * MEANS * total + count * MEANS**2, 0)
    higher = GAINS["higher"] * excess + PRICES["higher"] * spread
    lower = PRICES["lower"] * spread - GAINS["lower"] * excess
    wealth = np.concatenate([higher, lower])
    largest = wealth.max(axis=0)
    found: Floats = largest + np.log(np.exp(wealth - largest).mean(axis=0))
    return found


def difference(first: Floats, second: Floats, level: float) -> tuple[float, float]:
    """The first mean less the second, from the evidence against each: from where to where."""
    line = log(1 / level)
    return -_largest(second, first, line), _largest(first, second, line)


def _largest(first: Floats, second: Floats, line: float) -> float:
    """The largest difference of a pair of means whose evidence together stays below the line. The likeliest pair's
    is 1 at most; only beyond millions of answers may no pair of these means be near enough, and nothing is told."""
    # of the second the smallest mean whose evidence is this low: it only falls along the means
    lowest = np.minimum.accumulate(second)
    place = np.searchsorted(-lowest, first - line, side="right")
    possible = place < CELLS
    if not possible.any():
        return 1.0
    return float((ABOVE[possible] - BELOW[place[possible]]).max())

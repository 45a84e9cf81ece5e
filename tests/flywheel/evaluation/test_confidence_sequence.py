"""The interval of a difference holds at all looks together, is told from sums alone, and narrows."""

from itertools import product
from math import comb, exp, log

import numpy as np
import pytest

from flywheel.evaluation.confidence_sequence import (
    ABOVE,
    BELOW,
    CELLS,
    MEANS,
    difference,
    evidence_of_mean,
    evidence_of_share,
)

UNIFORM, JEFFREYS = (1.0, 1.0), (0.5, 0.5)
PLACES = (3, 200, 500, 760, 996)


def mean_of(values):
    return evidence_of_mean(sum(values), sum(value * value for value in values), len(values))


def test_the_evidence_is_the_mixtures_by_hand():
    """One failure in one trial: all shares alike make it .5 probable, the share p makes it 1 - p."""
    assert np.exp(evidence_of_share(0, 1, UNIFORM)) == pytest.approx(0.5 / (1 - MEANS))
    assert np.exp(evidence_of_share(2, 2, UNIFORM)) == pytest.approx(1 / 3 / MEANS**2)
    assert evidence_of_share(0, 0, JEFFREYS).tolist() == [0.0] * CELLS
    assert evidence_of_mean(0.0, 0.0, 0) == pytest.approx(np.zeros(CELLS), abs=1e-12)


@pytest.mark.parametrize("prior", [UNIFORM, JEFFREYS, (0.1, 1.0)])
@pytest.mark.parametrize("place", PLACES)
def test_the_evidence_against_a_true_share_is_one_on_average(place, prior):
    share = MEANS[place]
    chances = [comb(12, count) * share**count * (1 - share) ** (12 - count) for count in range(13)]
    evidence = [exp(evidence_of_share(count, 12, prior)[place]) for count in range(13)]
    assert np.dot(chances, evidence) == pytest.approx(1)


@pytest.mark.parametrize("place", PLACES)
def test_the_evidence_against_a_true_mean_is_one_at_most_on_average(place):
    """Of four values of 0, m and 1, all 81 draws: 1 as often as that makes m the mean."""
    mean = float(MEANS[place])
    chances = {0.0: 0.6 * (1 - mean), mean: 0.4, 1.0: 0.6 * mean}
    average = sum(
        np.prod([chances[value] for value in values]) * exp(mean_of(values)[place])
        for values in product(chances, repeat=4)
    )
    assert 0.5 < average <= 1 + 1e-9


def test_the_ends_are_those_of_all_pairs_of_means():
    first, second = evidence_of_share(9, 30, JEFFREYS), mean_of([0.2, 0.4, 0.1, 0.5] * 10)
    possible = first[:, None] + second[None, :] < log(1 / 0.05)
    low, high = difference(first, second, 0.05)
    assert high == (ABOVE[:, None] - BELOW[None, :])[possible].max()
    assert low == pytest.approx((BELOW[:, None] - ABOVE[None, :])[possible].min())
    assert low < 0 < high


def test_the_interval_holds_at_all_looks_of_a_life_together():
    random, missed, lives = np.random.default_rng(0), {"shares": 0, "means": 0}, 80
    for _ in range(lives):
        first, second = random.random(400) < 0.15, random.random(1600) < 0.05
        doubts, others = random.beta(1, 5, 400), random.beta(1, 9, 1600)
        apart = {"shares": 0.1, "means": 1 / 6 - 1 / 10}
        left = set()
        for look in range(10, 401, 10):
            found = {
                "shares": (
                    evidence_of_share(int(first[:look].sum()), look, JEFFREYS),
                    evidence_of_share(int(second[: 4 * look].sum()), 4 * look, JEFFREYS),
                ),
                "means": (mean_of_array(doubts[:look]), mean_of_array(others[: 4 * look])),
            }
            for name, evidence in found.items():
                low, high = difference(*evidence, 0.2)
                left |= set() if low <= apart[name] <= high else {name}
        for name in left:
            missed[name] += 1
    assert max(missed.values()) <= 0.2 * lives


def mean_of_array(values):
    return evidence_of_mean(float(values.sum()), float((values**2).sum()), len(values))


def test_the_interval_is_no_wider_than_thrice_that_of_one_look():
    """Of 1.96 standard errors, for a difference of .1 after 400 and 1,600 answers."""
    once = 1.96 * (0.15 * 0.85 / 400 + 0.05 * 0.95 / 1600) ** 0.5
    low, high = difference(evidence_of_share(60, 400, JEFFREYS), evidence_of_share(80, 1600, JEFFREYS), 0.05)
    assert once < 0.1 - low < 3 * once
    assert once < high - 0.1 < 3 * once
    assert low > 0, "told"


def test_values_that_vary_little_tell_sooner():
    def width(spread: float) -> float:
        arms = [mean_of([0.3 - spread, 0.3 + spread] * pairs) for pairs in (100, 400)]
        low, high = difference(*arms, 0.05)
        return high - low

    assert width(0.02) < width(0.1) < width(0.3)
    assert width(0.3) < 0.25


def test_without_data_nothing_is_told():
    nothing = evidence_of_share(0, 0, JEFFREYS)
    low, high = difference(nothing, nothing, 0.05)
    assert (low, high) == (-1.0, 1.0)
    low, high = difference(evidence_of_share(0, 500, JEFFREYS), nothing, 0.05)
    assert low == -1.0
    assert high < 0.05


@pytest.mark.parametrize("successes", [0, 1, 50_000, 99_999, 100_000])
def test_many_answers_are_told_in_finite_numbers(successes):
    share = evidence_of_share(successes, 100_000, (0.1, 1.0))
    mean = evidence_of_mean(float(successes), float(successes), 100_000)
    assert np.isfinite(share).all()
    assert np.isfinite(mean).all()
    for evidence in (share, mean):
        low, high = difference(evidence, evidence, 0.01)
        assert -0.03 < low <= 0 <= high < 0.03

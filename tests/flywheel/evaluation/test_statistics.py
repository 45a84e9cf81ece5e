"""Wilson's interval against published values (Newcombe 1998, Statistics in Medicine 17:857, table I)."""

import pytest

from flywheel.evaluation.statistics import (
    holm,
    loss_p,
    majority_rate,
    mcnemar_p,
    noninferiority_p,
    paired_difference,
    score,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(successes, trials, low, high):
    interval = wilson(successes, trials)
    assert interval.value == successes / trials
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


@pytest.mark.parametrize("trials", [1, 7, 100, 10_000, 3_000_001])
def test_wilson_stays_within_zero_and_one_and_holds_its_value(trials):
    for successes in (0, 1, trials // 2, trials - 1, trials):
        interval = wilson(successes, trials)
        assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_wilson_is_symmetric_in_success_and_failure():
    assert wilson(3, 10).low == pytest.approx(1 - wilson(7, 10).high)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_share(successes, trials):
    with pytest.raises(ValueError, match="a trial are expected"):
        wilson(successes, trials)


def test_majority_rate_is_what_a_constant_answer_scores():
    assert majority_rate([1, 3, 0]) == 0.75
    with pytest.raises(ValueError, match="No images"):
        majority_rate([0, 0])


def test_the_paired_interval_is_newcombes_worked_example() -> None:
    # Newcombe (1998), table II, method 10: 36 both, 12 and 2 only one, none neither
    found = paired_difference(36, 12, 2, 0)
    assert (found.value, round(found.low, 4), round(found.high, 4)) == (0.2, 0.0569, 0.3404)


def test_the_paired_interval_by_hand() -> None:
    # 16 images: 8 both, 4 only the first, 0 only the second, 4 neither. p1 = 12/16, p2 = 8/16.
    # Correlation: 8·4 − 4·0 = 32, less 16/2 = 24, over √(12·4·8·8) = √3072 = 55.4256: 0.43301.
    # Wilson: first 0.505..0.898, second 0.280..0.720.
    # below: √(0.245² − 2·0.43301·0.245·0.220 + 0.220²) = √0.06175 = 0.2485; above, with 0.220 and 0.1482: 0.2053.
    found = paired_difference(8, 4, 0, 4)
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.0015, 0.4553), abs=3e-4)


def test_models_that_swap_places_swap_the_interval() -> None:
    one, other = paired_difference(50, 9, 4, 7), paired_difference(50, 4, 9, 7)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_models_that_agree_differ_by_little_and_pairing_narrows() -> None:
    same = paired_difference(900, 0, 0, 100)
    assert same.value == 0
    assert -0.005 < same.low < 0 < same.high < 0.005
    paired, crossed = paired_difference(880, 20, 0, 100), paired_difference(800, 100, 80, 20)
    assert paired.value == crossed.value == 0.02
    assert paired.high - paired.low < (crossed.high - crossed.low) / 2


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (5, -1, 1, 1)])
def test_a_paired_difference_refuses_what_is_no_count(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="counts from 0 on"):
        paired_difference(*counts)


def test_mcnemar_is_the_exact_binomial_tail():
    assert mcnemar_p(9, 1) == pytest.approx(11 / 1024)
    assert mcnemar_p(0, 5) == 1.0
    assert mcnemar_p(0, 0) == 1.0


def test_the_score_statistic_against_tango_1998():
    """44 pairs of which one is only the second's: 95 % limits of -.118 and .061, by inversion of the statistic."""
    z = 1.959964
    low, high = (root_of(lambda d, sign=sign: float(score(0, 1, 44, d)) - sign * z) for sign in (1, -1))
    assert low == pytest.approx(-0.1177, abs=2e-3)
    assert high == pytest.approx(0.0610, abs=2e-3)


def test_at_a_margin_of_nothing_the_score_is_mcnemars_without_correction():
    assert float(score(30, 10, 100, 0.0)) == pytest.approx((30 - 10) / 40**0.5)


def test_no_spread_is_no_error():
    assert float(score(0, 0, 10, 0.0)) == 0.0
    assert noninferiority_p(0, 0, 100, 0.05) == pytest.approx(0.0109, abs=2e-3)
    assert loss_p(0, 0, 100, 0.05) == pytest.approx(1 - 0.0109, abs=2e-3)


@pytest.mark.parametrize("wrong", [(-1, 0, 10), (6, 6, 10), (0, 0, 0)])
def test_counts_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match="counts that fit"):
        noninferiority_p(*wrong, 0.02)


def test_holm_steps_down_and_stops_at_the_first_that_holds():
    assert holm([0.01, 0.04, 0.03], 0.05) == (True, False, False)
    assert holm([0.01, 0.02, 0.03], 0.05) == (True, True, True)
    assert holm([float("nan"), 0.5], 0.05) == (False, False)
    assert holm([], 0.05) == ()


def root_of(function, low=-0.9, high=0.9):
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (function(low) > 0) == (function(middle) > 0) else (low, middle)
    return low

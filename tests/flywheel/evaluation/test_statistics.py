"""Wilson's interval against published values (Newcombe 1998, Statistics in Medicine 17:857, table I)."""

import pytest

from flywheel.evaluation.statistics import majority_rate, wilson


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

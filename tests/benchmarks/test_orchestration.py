"""A claim about ratios holds by their intervals, and an interval by repetitions enough."""

import json

import pytest

from benchmarks.orchestration import FEWEST_REPETITIONS, is_cheaper, spread
from benchmarks.results import RESULTS


def figures(low: float, repetitions: int = FEWEST_REPETITIONS) -> dict:
    return {
        "repetitions": repetitions,
        "seconds_ratio": {"value": 2.1, "low": low, "high": 2.3},
        "cpu_seconds_ratio": {"value": 1.5, "low": 1.2, "high": 1.7},
        "seconds_prefect_adds": {"value": 0.1, "low": 0.0, "high": 0.2},
    }


def test_an_interval_that_includes_no_gain_is_none():
    assert is_cheaper(figures(low=1.1))
    assert not is_cheaper(figures(low=0.62)), "whatever its middle"
    assert not is_cheaper(figures(low=1.1, repetitions=FEWEST_REPETITIONS - 1))


@pytest.mark.parametrize(("repetitions", "low", "high"), [(3, 1, 3), (6, 1, 6), (8, 1, 8), (9, 2, 8), (12, 3, 10)])
def test_an_interval_is_that_of_the_sign_test(repetitions, low, high):
    """Ranks as in tables of the median's interval at 95 %."""
    found = spread([float(rank) for rank in range(repetitions, 0, -1)])
    assert (found["low"], found["value"], found["high"]) == (low, (repetitions + 1) / 2, high)


def test_what_is_kept_holds_or_not_by_its_own_figures():
    kept = json.loads((RESULTS / "orchestration.json").read_text(encoding="utf-8"))
    assert kept["holds"] is is_cheaper(kept["figures"])

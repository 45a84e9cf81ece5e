"""The simulated trials count what they say, and the tests beside the judge are those of the books."""

import numpy as np
import pytest

from benchmarks.canary import (
    FAILING,
    LOOKS,
    OTHERS,
    POLICY,
    RULES,
    STEP,
    Challenger,
    Ended,
    by_test,
    constant,
    counted,
    harms,
    played,
    slower_by,
    summary,
)
from benchmarks.monitoring_world import Labelled
from tests.flywheel.monitoring.worlds import seen

ANSWERED = Labelled(*seen(3_000, 1))


def test_an_arm_counts_what_its_model_does():
    random = np.random.default_rng(0)
    challenger = Challenger(ANSWERED, failing=0.1, labelled=0.5)
    counts = counted(random, challenger, STEP, bound=float(np.inf))
    failures, answers, slow, total, squares, labelled, right = counts[-1]
    assert counts.shape == (LOOKS, 7)
    assert failures + answers == POLICY.most_answers == LOOKS * STEP
    assert failures / POLICY.most_answers == pytest.approx(0.1 + FAILING, abs=0.025)
    sure = ANSWERED.sample.probabilities.max(1)
    assert slow == 0
    assert total / answers == pytest.approx(sure.mean(), abs=0.02)
    assert squares / answers == pytest.approx((sure**2).mean(), abs=0.02)
    assert labelled / answers == pytest.approx(0.5, abs=0.05)
    assert right / labelled == pytest.approx(ANSWERED.accuracy, abs=0.06)
    assert (np.diff(counts, axis=0) >= 0).all()
    assert (counts[0, 0] + counts[0, 1], OTHERS) == (STEP, 80)


def test_a_true_harm_is_told_in_points():
    cells = {"slow": Challenger(ANSWERED, slower=slower_by(0.1)), "sure": Challenger(constant(ANSWERED), failing=0.02)}
    found = harms(ANSWERED, cells)
    assert found["slow"] == {"failed": 0, "slow": 10, "confidence": 0, "accuracy": 0}
    assert found["sure"]["failed"] == 2
    first = float((ANSWERED.labels == 0).mean())
    assert found["sure"]["accuracy"] == pytest.approx(100 * (ANSWERED.accuracy - first), abs=0.06)
    assert found["sure"]["confidence"] < 0


def test_one_trial_ends_by_every_rule():
    ends = played(ANSWERED, Challenger(ANSWERED, failing=1.0), 0)
    assert set(ends) == set(RULES)
    assert set(ends.values()) == {Ended("roll back", STEP, shown=True)}


def test_a_test_of_each_look_is_that_of_the_books():
    """12 of 400 after 2 of 1,600: the harm is .02875, its standard error .00858, so 3.35 of these above none."""
    champion, challenger = np.zeros((LOOKS, 7)), np.zeros((LOOKS, 7))
    champion[:], challenger[:] = (2, 1598, 80, 1500, 1450, 0, 0), (12, 388, 20, 364, 352, 0, 0)
    assert by_test(champion, challenger, tolerant=False) == Ended("roll back", STEP, shown=True)
    assert by_test(champion, challenger, tolerant=True) == Ended("promote", LOOKS * STEP, shown=False)
    challenger[:, 0], challenger[:, 1] = 25, 375
    assert by_test(champion, challenger, tolerant=True) == Ended("roll back", STEP, shown=True)


def test_a_summary_counts_trials():
    ends = [Ended("roll back", 20, True), Ended("promote", 400, True), Ended("promote", 2000, False)]
    found = summary([*ends, Ended("roll back", 2000, False)])
    shares = ("found harmful", "rolled back undecided", "found harmless", "promoted undecided")
    assert [found[name] for name in shares] == [0.25] * 4
    assert found["requests, median"] == 1200

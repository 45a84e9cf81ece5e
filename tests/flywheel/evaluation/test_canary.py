"""A canary's verdict: harm is rolled back soon, its absence promoted, and what is unknown is not taken for either."""

from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest
from pydantic import ValidationError

from flywheel.evaluation.canary import ACCURACY, CONFIDENCE, FAILURES, SLOW, Arm, judge_canary
from flywheel.policies import CanaryPolicy
from flywheel.records import from_json, to_json

POLICY = CanaryPolicy()
SOON, LATE = 1.0, 121.0  # seconds since the trial began


def arm(answers, failures=0, slow=0.05, confidence=0.85, spread=0.2, labelled=0, right=0.9):
    """One that did so on average."""
    return Arm(
        answers,
        failures,
        round(slow * answers),
        confidence * answers,
        (confidence**2 + spread**2) * answers,
        labelled,
        round(right * labelled),
    )


def measure(verdict, name):
    return {each.name: each for each in verdict.measures}[name]


def test_an_equal_challenger_is_promoted_when_all_harm_is_excluded():
    early = judge_canary(arm(400), arm(100), POLICY, SOON)
    assert early.verdict == "go on"
    found = judge_canary(arm(1600), arm(400), POLICY, SOON)
    assert found.verdict == "promote"
    assert [each.name for each in found.measures] == [FAILURES, SLOW, CONFIDENCE]
    assert {each.verdict for each in found.measures} == {"fine"}
    assert "after 400 answers" in found.reason
    for each in found.measures:
        assert each.low < 0 < each.high < each.tolerance


def test_one_that_fails_every_request_is_rolled_back_within_ten():
    for failures in range(1, 11):
        found = judge_canary(arm(5 * failures), arm(0, failures=failures), POLICY, SOON)
        if found.verdict != "go on":
            break
    assert found.verdict == "roll back"
    assert failures > 1, "one failure alone may happen"
    assert "failed requests 100.0% after 0.0%" in found.reason


@pytest.mark.parametrize(
    ("name", "challenger"),
    [
        (FAILURES, arm(360, failures=40)),
        (SLOW, arm(400, slow=0.4)),
        (CONFIDENCE, arm(400, confidence=0.6)),
        (ACCURACY, arm(400, labelled=150, right=0.6)),
    ],
)
def test_every_harm_is_rolled_back_by_its_own_measure(name, challenger):
    found = judge_canary(arm(1600, labelled=600), challenger, POLICY, SOON)
    assert found.verdict == "roll back"
    assert [each.name for each in found.measures if each.verdict == "harm"] == [name]
    each = measure(found, name)
    assert each.low > each.tolerance
    assert each.difference == pytest.approx({FAILURES: 0.1, SLOW: 0.35, CONFIDENCE: 0.25, ACCURACY: 0.3}[name])


def test_a_better_challenger_is_no_harm():
    champion = arm(1600, failures=200, slow=0.3, confidence=0.6, labelled=1000, right=0.6)
    found = judge_canary(champion, arm(400, confidence=0.9, labelled=300, right=0.95), POLICY, SOON)
    assert found.verdict == "promote"
    assert all(each.high < 0 and each.difference < 0 for each in found.measures)
    accuracy = measure(found, ACCURACY)
    assert (accuracy.champion, accuracy.challenger) == (pytest.approx(0.6), pytest.approx(0.95))


@pytest.mark.parametrize("broken", [nan, inf, -inf])
def test_what_is_no_number_is_rolled_back_at_once(broken):
    for part in ("confidence_sum", "confidence_squares"):
        found = judge_canary(arm(4), replace(arm(1), **{part: broken}), POLICY, SOON)
        assert found.verdict == "roll back"
        assert "the challenger answered with what is no number" in found.reason.lower()
    assert judge_canary(replace(arm(900), confidence_sum=broken), arm(300), POLICY, SOON).verdict == "roll back"


def test_never_promoted_with_too_few_answers_of_either():
    few = POLICY.fewest_answers - 1
    for champion, challenger in ((arm(4 * few), arm(few)), (arm(few), arm(4 * few)), (arm(0), arm(0))):
        assert judge_canary(champion, challenger, POLICY, SOON).verdict == "go on"
        found = judge_canary(champion, challenger, POLICY, LATE)
        assert found.verdict == "roll back"
        assert "too few" in found.reason
    never_compared = judge_canary(arm(0), arm(0, failures=50), POLICY, LATE)
    assert never_compared.verdict == "roll back"


@pytest.mark.parametrize("undecided", ["promote", "roll back"])
def test_an_undecided_trial_ends_as_the_policy_says(undecided):
    policy = POLICY.model_copy(update={"undecided": undecided, "largest_failure_increase": 0.001})
    assert judge_canary(arm(1000), arm(250), policy, SOON).verdict == "go on"
    for challenger, seconds in ((arm(250), LATE), (arm(policy.most_answers), SOON)):
        found = judge_canary(arm(1000), challenger, policy, seconds)
        assert found.verdict == undecided
        assert "ended undecided" in found.reason
        assert "failed requests" in found.reason


def test_an_undecided_trial_with_more_harm_seen_than_tolerated_is_rolled_back():
    challenger = arm(243, failures=7)
    assert judge_canary(arm(1000), challenger, POLICY, SOON).verdict == "go on"
    found = judge_canary(arm(1000), challenger, POLICY, LATE)
    assert found.verdict == "roll back"
    assert "failed requests 2.8% after 0.0%" in found.reason


def test_few_labels_hold_nothing_up_and_many_do():
    few = judge_canary(arm(1600, labelled=99), arm(400, labelled=40), POLICY, SOON)
    assert measure(few, ACCURACY).verdict == "open"
    assert few.verdict == "promote"
    bad = [arm(1600, labelled=99), arm(400, labelled=10, right=0.6)]
    assert measure(judge_canary(*bad, POLICY, SOON), ACCURACY).verdict == "open"
    assert judge_canary(*bad, POLICY, SOON).verdict == "go on", "they seem to say that too much is lost"
    assert judge_canary(*bad, POLICY, LATE).verdict == "promote", "but ten labels don't show it"
    many = judge_canary(arm(1600, labelled=400, right=0.7), arm(400, labelled=100, right=0.7), POLICY, SOON)
    assert many.verdict == "go on"
    assert "accuracy" in many.reason


def test_confidences_may_be_counted_apart():
    apart = [replace(arm(answers), confidences=answers + 3) for answers in (1600, 400)]
    assert judge_canary(*apart, POLICY, SOON).verdict == "promote"
    assert measure(judge_canary(*apart, POLICY, SOON), CONFIDENCE).champion == pytest.approx(0.85 * 1600 / 1603)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"slow": 11}, "11 slow of 10"),
        ({"right": 1}, "1 right of 0"),
        ({"failures": -1}, "-1 failures"),
        ({"confidence_sum": 10.5}, "sum to 10.5"),
        ({"confidence_squares": 9.9}, "9.9 of 10"),
    ],
)
def test_counts_that_can_not_be_are_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        judge_canary(arm(40), replace(arm(10), **wrong), POLICY, SOON)


def test_sure_answers_in_32_bits_are_possible_counts():
    sure = np.ones(400, np.float32) + np.float32(2e-7)
    found = Arm(400, 0, 0, float(sure.sum()), float((sure**2).sum()), 0, 0)
    assert judge_canary(found, found, POLICY, SOON).verdict == "promote"


def test_many_looks_at_a_challenger_just_within_the_tolerance_find_no_harm():
    """Looked at every 40 requests, for as long as a trial may go on; .02 more fail, which is what is tolerated."""
    random, lives, harmed = np.random.default_rng(0), 40, 0
    for _ in range(lives):
        failed, others = np.cumsum(random.random(2_000) < 0.03), np.cumsum(random.random(8_000) < 0.01)
        for asked in range(40, 2_001, 40):
            failures, before = int(failed[asked - 1]), int(others[4 * asked - 1])
            found = judge_canary(
                arm(4 * asked - before, before), arm(asked - failures, failures), POLICY, asked / 2_000
            )
            if measure(found, FAILURES).verdict == "harm":
                harmed += 1
                break
    assert harmed <= 0.05 * lives


def test_a_verdict_is_kept_and_read_again():
    found = judge_canary(arm(1600), arm(400), POLICY, SOON)
    assert from_json(type(found), to_json(found)) == found


def test_a_policy_whose_trial_could_never_promote_is_refused():
    with pytest.raises(ValidationError, match="most_answers 100"):
        CanaryPolicy(fewest_answers=200, most_answers=100)

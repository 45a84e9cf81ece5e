"""The alarm over a life: it stays within its budget, sees what moved, and goes on where it was."""

import re

import numpy as np
import pytest

from flywheel.monitoring.alarm import (
    FALL,
    SMALLEST_P,
    AlarmState,
    e_value,
    look,
    threshold_of,
    weight,
)
from flywheel.monitoring.drift import Channel, Drift
from flywheel.policies import AlarmPolicy
from flywheel.records import from_json, to_json

POLICY = AlarmPolicy()


def drift(first: float, second: float = 0.5) -> Drift:
    channels = [Channel(name, p, 0.0, 0.0, 0.0) for name, p in (("input", first), ("prediction", second))]
    return Drift(100, *channels, ())


def play(p, state=None):
    state, verdict = state or AlarmState(), None
    for at in p:
        state, verdict = look(state, drift(*at), POLICY)
    return state, verdict


def test_the_weights_of_all_looks_sum_to_one_at_most():
    direct = sum(weight(number) for number in range(1, 200_000))
    rest = weight(1) * 199_999.5 ** (1 - FALL) / (FALL - 1)  # the integral of what is left is above its sum
    assert 0.999 < direct + rest <= 1


def test_an_e_value_is_one_at_most_on_average():
    logarithms = np.linspace(np.log(SMALLEST_P), 0, 200_001)
    p = np.exp(logarithms)
    heights = np.array([e_value(each) for each in p]) * p  # over the logarithm of p
    mean = np.trapezoid(heights, logarithms) + SMALLEST_P * e_value(0.0)
    assert 0.9 < mean <= 1.0
    assert e_value(0.0) == e_value(SMALLEST_P)
    assert e_value(1.0) == pytest.approx(0.5)
    values = [e_value(each) for each in np.linspace(0, 1, 500)]
    assert values == sorted(values, reverse=True)


def test_lives_in_which_nothing_moves_stay_within_the_budget():
    random, lives, looks = np.random.default_rng(1), 300, 300
    p = random.random((lives, looks))
    alarms = sum(play(np.stack([life, life[::-1]], 1))[0].alarmed_at is not None for life in p)
    assert alarms <= 0.05 * lives


def test_a_shift_is_found_soon_also_after_a_long_silence():
    quiet = np.random.default_rng(2).random((3_000, 2)) * 0.98 + 0.02
    state, before = play(quiet)
    assert not before.alarm
    for looks in range(1, 6):  # noqa: B007 - told below
        state, verdict = look(state, drift(1e-9, 0.3), POLICY)
        if verdict.raised:
            break
    assert looks <= 3
    assert verdict.channel == "input"
    assert 2_995 <= verdict.since_look <= 3_002
    assert "input moved, most likely at look" in verdict.reason


def test_the_reason_has_no_exponent_whatever_the_evidence_and_the_threshold():
    strict = AlarmPolicy(false_alarm_budget=0.0105)
    state, reasons = AlarmState(), []
    for p in (0.999, 0.5, 1e-4, 1e-9, 1e-9, 1e-9):
        state, verdict = look(state, drift(p, p), strict)
        reasons.append(verdict.reason)
    assert [re.findall(r"[\d.]e[+-]?\d", reason) for reason in reasons] == [[]] * len(reasons)
    assert all("2,000 is asked" in reason for reason in reasons), "1 / (0.0105 - 2 * 0.005)"
    assert "evidence below 0.01" not in reasons[-1]
    assert "evidence over 1 million, 2,000 is asked" in reasons[-1]


def test_no_single_window_raises_an_alarm_late_in_life():
    state, _ = play([(0.5, 0.5)] * 100)
    _, verdict = look(state, drift(0.0, 0.5), POLICY)
    assert not verdict.alarm


def test_an_alarm_stays_until_the_next_release():
    state, verdict = play([(1e-9, 1e-9)] * 5)
    raised = state.alarmed_at
    assert verdict.alarm
    state, verdict = play([(0.9, 0.9)] * 200, state)
    assert (verdict.alarm, verdict.raised, state.alarmed_at) == (True, False, raised)
    assert play([(0.9, 0.9)])[1].alarm is False


def test_a_life_goes_on_from_what_was_kept():
    p = np.random.default_rng(3).random((60, 2))
    whole, _ = play(p)
    half, _ = play(p[:30])
    assert play(p[30:], from_json(AlarmState, to_json(half)))[0] == whole


def test_the_budget_leaves_room_for_the_references_own_errors():
    assert threshold_of(POLICY) == pytest.approx(25)


@pytest.mark.parametrize("p", [float("nan"), -0.1, 1.1])
def test_what_is_no_p_value_is_refused(p):
    with pytest.raises(ValueError, match="input: a p-value expected"):
        look(AlarmState(), drift(p), POLICY)

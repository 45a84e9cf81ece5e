"""Exact powers, against a simulation of the very tests that the gate makes."""

from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import binom

from flywheel.evaluation.power import (
    equal_challenger_power,
    expected_disagreement,
    gates_allowed,
    history,
    images_needed,
    margin_needed,
    noninferiority_miss,
    noninferiority_power,
    plan,
    superiority_power,
)
from flywheel.evaluation.spending import next_comparison
from flywheel.evaluation.statistics import mcnemar_p, noninferiority_p, score
from flywheel.policies import GatePolicy

POLICY = GatePolicy()


def test_the_default_policy_has_its_power_at_every_planned_gate():
    """8,000 frozen images, a margin of 2 points, 10 gates, an equal challenger that differs on a fifth of them."""
    gates = plan(8000, POLICY)
    assert len(gates) == 10
    assert min(gate.non_inferior for gate in gates) >= 0.8
    assert min(gate.superior for gate in gates) >= 0.8


@pytest.mark.parametrize(("images", "disagreement", "gain"), [(1000, 0.1, 0.0), (2000, 0.2, 0.02), (8000, 0.05, -0.01)])
def test_enumeration_agrees_with_simulation(images, disagreement, gain):
    draws, alpha, margin = 4000, 0.05, 0.02
    shares = [(disagreement + gain) / 2, (disagreement - gain) / 2, 1 - disagreement]
    won, lost, _ = np.random.default_rng(1).multinomial(images, shares, draws).T
    pairs = list(zip(won.tolist(), lost.tolist(), strict=True))
    within = np.mean([noninferiority_p(w, x, images, margin) <= alpha for w, x in pairs])
    better = np.mean([mcnemar_p(w, x) <= alpha for w, x in pairs])
    assert noninferiority_power(images, disagreement, gain, margin, alpha) == pytest.approx(within, abs=0.025)
    assert superiority_power(images, disagreement, gain, alpha) == pytest.approx(better, abs=0.025)


@pytest.mark.parametrize("alpha", [0.05, 0.0045, 1e-4])
@pytest.mark.parametrize("disagreement", [0.03, 0.1, 0.35])
@pytest.mark.parametrize("images", [1000, 8000])
def test_no_test_exceeds_its_level(images, disagreement, alpha):
    """The exact chance of rejecting a null that just holds."""
    assert noninferiority_power(images, disagreement, -0.02, 0.02, alpha) <= alpha * 1.003
    assert superiority_power(images, disagreement, 0.0, alpha) <= alpha


def test_a_miss_is_what_the_power_leaves():
    power = noninferiority_power(2000, 0.1, 0.0, 0.02, 0.05)
    assert noninferiority_miss(2000, 0.1, 0.0, 0.02, 0.05) == pytest.approx(1 - power, abs=1e-8)


def test_tails_far_below_what_a_float_can_leave_of_one_are_exact():
    """Better by 2 points, where at d = .04 all of the differing images are won: a miss is a binomial's low tail."""
    images, level = 26_000, 1e-12
    miss = noninferiority_miss(images, 0.04, 0.04, -0.02, level, negligible=1e-60)
    needed = next(won for won in range(images) if score(won, 0, images, 0.02) >= -NormalDist().inv_cdf(level))
    assert miss == pytest.approx(float(binom.cdf(needed - 1, images, 0.04)), rel=1e-6)
    assert 0 < miss < 1e-30
    size = noninferiority_power(images, 0.02, 0.02, -0.02, level, negligible=1e-20)
    assert size == pytest.approx(float(binom.sf(needed - 1, images, 0.02)), rel=1e-6)


def test_images_and_margin_that_would_do_do():
    spending = next_comparison(history(1, 0), POLICY)
    needed = images_needed(spending, POLICY, 0.2)
    assert equal_challenger_power(needed, spending, POLICY, 0.2) >= 0.8
    assert equal_challenger_power(int(needed * 0.95), spending, POLICY, 0.2) < 0.8
    margin = margin_needed(366, spending, 0.2)
    assert noninferiority_power(366, 0.2, 0.0, margin, spending.alpha) >= 0.8
    assert noninferiority_power(366, 0.2, 0.0, margin - 0.002, spending.alpha) < 0.8
    assert margin_needed(2, spending, 0.5) is None


def test_more_images_allow_more_gates():
    allowed = [gates_allowed(images, POLICY, 0.2) for images in (2000, 6000, 8000, 16_000)]
    assert allowed[0] == 0
    assert allowed[1] < allowed[2] < allowed[3]


def test_a_model_that_rarely_errs_is_not_expected_to_disagree_often():
    assert expected_disagreement(POLICY) == 0.2
    assert expected_disagreement(POLICY, 0.73) == 0.2
    assert expected_disagreement(POLICY, 0.99) == pytest.approx(0.01)
    assert expected_disagreement(POLICY, 1.0) == 0.001


def test_a_gain_beyond_the_disagreement_is_refused():
    with pytest.raises(ValueError, match=r"gain of 0\.3"):
        superiority_power(100, 0.2, 0.3, 0.05)


def test_a_plan_for_models_that_hardly_differ_is_a_plan():
    gates = plan(400, GatePolicy(disagreement=0.005, margin=0.02))
    assert all(0 <= gate.superior <= 1 for gate in gates)

"""A retraining must show that it helped, on images that were labelled under drift."""

import numpy as np
import pytest

from flywheel.evaluation.evidence import Comparison, DriftedEvidence, PairedCounts
from flywheel.evaluation.gates import gate_policy, policy_of
from flywheel.evaluation.rules.drifted import drifted_rule
from flywheel.evaluation.statistics import mcnemar_p
from flywheel.policies import GatePolicy, RetrainingGatePolicy
from flywheel.records import Verdict
from tests.flywheel.evaluation.evidence_samples import challenger, verdict_on

POLICY = RetrainingGatePolicy()


def under_drift(won: int, lost: int, both: int = 60, neither: int = 60, earlier: int = 0) -> DriftedEvidence:
    counts = PairedCounts(both=both, only_challenger=won, only_other=lost, neither=neither)
    return DriftedEvidence("evalset-drifted", Comparison("model-champion", "eval-champion", counts), earlier)


@pytest.mark.parametrize(
    ("won", "lost", "verdict", "said"),
    [
        (50, 10, Verdict.PASS, "It helps under drift"),
        (20, 15, Verdict.NOT_ENOUGH_EVIDENCE, "would show such a difference"),
        (10, 10, Verdict.NOT_ENOUGH_EVIDENCE, "not shown"),
        (10, 50, Verdict.FAIL, "worse under drift"),
    ],
)
def test_it_must_be_better_on_the_drifted_images(won, lost, verdict, said):
    found = drifted_rule(challenger(900, 700, drifted=under_drift(won, lost)), POLICY)
    assert found.verdict is verdict
    assert said in found.reason


def test_what_was_not_measured_is_no_pass():
    found = drifted_rule(challenger(900, 700, problems={"drifted": "the disk is on fire"}), POLICY)
    assert found.verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert "the disk is on fire" in found.reason
    assert drifted_rule(challenger(900, 700, drifted=under_drift(0, 0, 0, 0)), POLICY).verdict is Verdict.FAIL


def test_it_is_asked_of_retrainings_alone():
    evidence = challenger(900, 700)
    assert "drifted" not in {rule.rule for rule in verdict_on(evidence).rules}


def test_a_retrainings_policy_comes_back_as_what_it_is():
    for policy in (GatePolicy(), POLICY):
        assert policy_of(gate_policy(policy)) == policy


def test_however_many_retrainings_are_judged_the_level_holds():
    """Equal models, judged after up to 20 retrainings each: a life with any pass is as rare as the policy says."""
    random = np.random.default_rng(3)
    wrong = 0
    for _ in range(2000):
        for number in range(1, 21):
            won = int(random.binomial(40, 0.5))
            wrong_now = mcnemar_p(won, 40 - won) <= POLICY.drifted_level / (number * (number + 1))
            found = drifted_rule(challenger(900, 700, drifted=under_drift(won, 40 - won, earlier=number - 1)), POLICY)
            assert (found.verdict is Verdict.PASS) == wrong_now
            if wrong_now:
                wrong += 1
                break
    assert wrong / 2000 <= POLICY.drifted_level

"""Did the retraining help? The challenger must be better than the champion on images that were labelled under drift."""

from math import ceil

from scipy.stats import norm

from flywheel.evaluation.evidence import GateEvidence
from flywheel.evaluation.rules.answers import answer, broken, points_interval, shown_p, unknown
from flywheel.evaluation.statistics import mcnemar_p, paired_difference
from flywheel.policies import RetrainingGatePolicy
from flywheel.records import RuleResult, Verdict

RULE = "drifted"


def drifted_rule(evidence: GateEvidence, policy: RetrainingGatePolicy) -> RuleResult:
    """Exact McNemar, one-sided. Several retrainings of one champion share the level: the k-th has 1 / (k (k + 1)) of
    it, which sums to all of it over however many."""
    found = evidence.drifted
    if found is None:
        return unknown(RULE, f"Nothing shows that it helps under drift: {evidence.problem('drifted')}.", None, 0.0)
    counts, number = found.champion.counts, found.earlier + 1
    if counts.images == 0:
        return broken(RULE, None, 0.0, "No image was labelled under drift.")
    alpha = policy.drifted_level / (number * (number + 1))
    difference = paired_difference(counts.both, counts.only_challenger, counts.only_other, counts.neither)
    better = mcnemar_p(counts.only_challenger, counts.only_other)
    told = (
        f"{points_interval(difference)} of top-1 against {found.champion.model_id} on {counts.images:,} images that "
        f"were labelled under drift, {counts.only_challenger:,} won and {counts.only_other:,} lost "
        f"(p {shown_p(better)}, level {alpha:.2g} of retraining {number} against it)"
    )
    if better <= alpha:
        return answer(RULE, Verdict.PASS, f"It helps under drift: {told}.", difference.value, 0.0, difference)
    if difference.high < 0:
        return answer(RULE, Verdict.FAIL, f"It is worse under drift: {told}.", difference.value, 0.0, difference)
    more = _more(better, alpha, counts.images, difference.value)
    reason = f"It is not shown that it helps under drift: {told}.{more}"
    return answer(RULE, Verdict.NOT_ENOUGH_EVIDENCE, reason, difference.value, 0.0, difference)


def _more(p: float, alpha: float, images: int, difference: float) -> str:
    """How many images would show this difference, were it the true one."""
    seen = float(norm.isf(p))
    if difference <= 0 or seen <= 0:
        return ""
    wanted = ceil(images * (float(norm.isf(alpha)) / seen) ** 2)
    return f" About {wanted:,} would show such a difference."

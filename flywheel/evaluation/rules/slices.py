"""No part of the frozen set is given up for the rest: classes, and thirds by brightness, contrast and sharpness.

A slice fails when it is shown to have lost more than the margin (of a retraining, its own), and all slices together do
so wrongly with at most `slice_error` as the chance (Holm 1979). It passes when a loss of `largest_slice_drop` is
excluded. Between the two, and below `smallest_slice` images, it is said to have not enough data.
"""

from math import sqrt
from statistics import NormalDist

from flywheel.evaluation.evidence import GateEvidence, SliceCounts
from flywheel.evaluation.rules.answers import SEVERITY, answer, points_interval, unknown
from flywheel.evaluation.statistics import holm, loss_p, noninferiority_p, paired_difference
from flywheel.policies import GatePolicy
from flywheel.records import RulePart, RuleResult, Verdict

RULE = "slices"
POWER = 0.8  # with which a slice would have shown its smallest detectable drop


def slices_rule(evidence: GateEvidence, policy: GatePolicy) -> RuleResult:
    """One verdict of all slices; its parts tell each one's."""
    slices = [part for part in evidence.slices if part.counts.images > 0]
    if not slices:
        return unknown(RULE, f"No slice could be compared: {evidence.problem('slices')}.")
    lost = [
        loss_p(s.counts.only_challenger, s.counts.only_other, s.counts.images, policy.loss_of_a_slice) for s in slices
    ]
    failed = holm(lost, policy.slice_error)
    level = policy.slice_error / len(slices)
    parts = tuple(_part(part, fails, level, policy) for part, fails in zip(slices, failed, strict=True))
    large = [part for part in parts if part.images >= policy.smallest_slice]
    small = f" {len(parts) - len(large)} more are too small to tell." if len(large) < len(parts) else ""
    if not large and not any(failed):
        return answer(
            RULE,
            Verdict.NOT_ENOUGH_EVIDENCE,
            f"None of {len(parts)} slices has the {policy.smallest_slice:,} images that are asked for.",
            parts=parts,
        )
    candidates = [part for part, fails in zip(parts, failed, strict=True) if fails or part in large]
    worst = min(
        candidates, key=lambda part: (SEVERITY.index(part.verdict), part.value if part.value is not None else 0)
    )
    told = {
        Verdict.FAIL: f"“{worst.name}” got worse: {worst.reason}",
        Verdict.NOT_ENOUGH_EVIDENCE: f"“{worst.name}” can't be told: {worst.reason}",
        Verdict.PASS: f"No slice of {len(large)} lost {policy.largest_slice_drop * 100:g} points; "
        f"the worst is “{worst.name}”: {worst.reason}",
    }[worst.verdict]
    asked = policy.loss_of_a_slice if worst.verdict is Verdict.FAIL else policy.largest_slice_drop
    return answer(RULE, worst.verdict, told + small, worst.value, -asked, worst.interval, parts)


def _part(part: SliceCounts, fails: bool, level: float, policy: GatePolicy) -> RulePart:
    counts = part.counts
    difference = paired_difference(counts.both, counts.only_challenger, counts.only_other, counts.neither)
    excluded = noninferiority_p(counts.only_challenger, counts.only_other, counts.images, policy.largest_slice_drop)
    detectable = smallest_detectable_drop(part, level, policy.loss_of_a_slice)
    told = f"{points_interval(difference)} on {counts.images:,} images"
    tells = f"the smallest drop it could have shown is {detectable * 100:.1f} points"
    if fails:
        verdict, reason = Verdict.FAIL, f"{told}, more than {policy.loss_of_a_slice * 100:g} points lost."
    elif counts.images < policy.smallest_slice:
        verdict, reason = Verdict.NOT_ENOUGH_EVIDENCE, f"{told}: not enough data; {tells}."
    elif excluded <= policy.slice_error:
        verdict, reason = Verdict.PASS, f"{told}; {tells}."
    else:
        verdict = Verdict.NOT_ENOUGH_EVIDENCE
        reason = f"{told}: a loss of {policy.largest_slice_drop * 100:g} points is not excluded; {tells}."
    return RulePart(part.name, counts.images, difference.value, difference, verdict, reason)


def smallest_detectable_drop(part: SliceCounts, level: float, margin: float) -> float:
    """The true loss for which a slice of this size and disagreement fails in 80 % of cases, at Holm's first step."""
    counts = part.counts
    disagreement = max(counts.only_challenger + counts.only_other, 1) / counts.images
    z = NormalDist()
    return min(1.0, margin + (z.inv_cdf(1 - level) + z.inv_cdf(POWER)) * sqrt(disagreement / counts.images))

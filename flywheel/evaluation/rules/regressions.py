"""Other ways of getting worse than the champion: under corruptions of the images, and in what an answer costs."""

from flywheel.evaluation.evidence import GateEvidence
from flywheel.evaluation.rules.answers import answer, at_most, broken, is_ordered, points_interval, unknown
from flywheel.policies import GatePolicy
from flywheel.records import Interval, RuleResult, Verdict


def robustness_rule(evidence: GateEvidence, policy: GatePolicy) -> RuleResult:
    """Mean accuracy under corruptions, paired by image with the champion's own record."""
    rule, largest, found = "robustness", policy.largest_robustness_loss, evidence.robustness
    if found is None:
        return unknown(rule, f"Robustness can't be compared: {evidence.problem('robustness')}.", None, -largest)
    difference = found.difference
    if not is_ordered(difference) or found.images < 1:
        return broken(rule, difference.value, -largest, f"Robustness: {difference} is no difference of accuracies.")
    told = (
        f"Mean accuracy under {found.corruptions} corruptions {found.challenger.value:.3f}, the champion's "
        f"{found.champion.value:.3f}, {points_interval(difference)} on {found.images:,} images"
    )
    limit = f"a loss of {largest * 100:g} points"
    if difference.low >= -largest:
        verdict, reason = Verdict.PASS, f"{told}: {limit} is excluded."
    elif difference.high < -largest:
        verdict, reason = Verdict.FAIL, f"{told}: all of it is beyond {limit}."
    else:
        verdict, reason = Verdict.NOT_ENOUGH_EVIDENCE, f"{told}: {limit} is not excluded."
    return answer(rule, verdict, reason, difference.value, -largest, difference)


def latency_rule(evidence: GateEvidence, policy: GatePolicy) -> RuleResult:
    """One image's time, as a ratio to the champion's, the two measured in turns."""
    rule, largest, cost = "latency", policy.largest_latency_ratio, evidence.cost
    if cost is None:
        return unknown(rule, f"Latency can't be compared: {evidence.problem('cost')}.", None, largest)
    if not (is_ordered(cost.latency_ratio) and cost.latency_ratio.low > 0):
        return broken(rule, cost.latency_ratio.value, largest, f"Latency: {cost.latency_ratio} is no ratio.")
    ratio: Interval = cost.latency_ratio
    told = f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] times the champion's latency"
    return at_most(rule, told, ratio, largest, "largest_latency_ratio")


def size_rule(evidence: GateEvidence, policy: GatePolicy) -> RuleResult:
    """Bytes of weights, as a ratio to the champion's."""
    rule, largest, cost = "size", policy.largest_size_ratio, evidence.cost
    if cost is None:
        return unknown(rule, f"Size can't be compared: {evidence.problem('cost')}.", None, largest)
    if not 0 < cost.size_ratio < float("inf"):
        return broken(rule, cost.size_ratio, largest, f"Size: {cost.size_ratio} is no ratio.")
    small = cost.size_ratio <= largest
    told = f"{cost.size_ratio:.2f} times the champion's weights, {'within' if small else 'above'} {largest:g}"
    told += "." if small else ", the policy's largest_size_ratio."
    return answer(rule, Verdict.PASS if small else Verdict.FAIL, told, cost.size_ratio, largest)

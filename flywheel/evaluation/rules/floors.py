"""The floors: what a model must show by itself. They alone judge a task's first model."""

from math import isfinite

from flywheel.evaluation.evidence import GateEvidence
from flywheel.evaluation.rules.answers import SEVERITY, answer, at_most, broken, is_share, unknown
from flywheel.policies import GatePolicy
from flywheel.records import ClassResult, Evaluation, Interval, RuleResult, Verdict


def evaluation_set_rule(evaluation: Evaluation, policy: GatePolicy) -> RuleResult:
    """Enough images to judge on."""
    images, least = evaluation.images, policy.smallest_evaluation_set
    enough = images >= least
    return answer(
        "evaluation set",
        Verdict.PASS if enough else Verdict.NOT_ENOUGH_EVIDENCE,
        f"{images:,} frozen images, at least {least:,} asked for"
        + ("." if enough else f": label {least - images:,} more."),
        float(images),
        float(least),
    )


def top1_rule(evaluation: Evaluation, policy: GatePolicy) -> RuleResult:
    """Top-1's low end lies above always answering the most common class, by a share of what is left.

    Its high end below the floor is a fail; an interval that holds the floor is not enough evidence.
    """
    majority = evaluation.majority_rate
    floor = majority + policy.lift_over_majority * (1 - majority)
    if not isfinite(floor):
        return broken("top-1", evaluation.top1.low, None, "The majority-class rate is missing or NaN.")
    told = f"the floor {floor:.3f} (majority-class rate {majority:.3f} + {policy.lift_over_majority:g} of the rest)"
    return _floor_rule("top-1", f"Top-1 {evaluation.top1}", evaluation.top1, floor, told)


def worst_class_rule(evaluation: Evaluation, policy: GatePolicy) -> RuleResult:
    """No class is given up: every class's recall has its low end at the floor or above."""
    rule, floor = "worst class recall", policy.worst_class_recall
    if not evaluation.classes:
        return broken(rule, None, floor, "The evaluation has no per-class results.")
    results = [
        (_floor_rule(rule, _told(result), result.recall, floor, f"the floor {floor:.3f}"), result)
        for result in evaluation.classes
    ]
    return min(results, key=lambda pair: (SEVERITY.index(pair[0].verdict), pair[1].recall.low))[0]


def calibration_rule(evidence: GateEvidence, policy: GatePolicy) -> RuleResult:
    """Confidence can be believed: the expected calibration error is small, with its interval."""
    rule, largest, ece = "calibration", policy.largest_ece, evidence.ece
    if ece is None:
        return unknown(rule, f"The calibration error has no interval: {evidence.problem('ece')}.", None, largest)
    if not is_share(ece):
        return broken(rule, ece.value, largest, f"The expected calibration error is {ece}, a share was expected.")
    return at_most(rule, f"ECE {ece}", ece, largest, "largest_ece")


def _told(result: ClassResult) -> str:
    return f"Worst class “{result.label}”: recall {result.recall} on {result.images:,} images"


def _floor_rule(rule: str, told: str, measured: Interval, floor: float, told_floor: str) -> RuleResult:
    """The low end of an interval against a floor; `value` is that low end."""
    if not is_share(measured):
        return broken(rule, measured.low, floor, f"{told}: a share with its interval was expected.")
    if measured.low >= floor:
        return answer(rule, Verdict.PASS, f"{told}: the low end reaches {told_floor}.", measured.low, floor, measured)
    if measured.high < floor:
        return answer(rule, Verdict.FAIL, f"{told}: all of it lies below {told_floor}.", measured.low, floor, measured)
    reason = f"{told}: the interval still holds {told_floor}. More labelled images would tell."
    return answer(rule, Verdict.NOT_ENOUGH_EVIDENCE, reason, measured.low, floor, measured)

"""May a model become champion? Pure rules over recorded evaluations: no model, no disk, no database.

Every rule answers pass, fail or not enough evidence. What is missing, NaN or empty never passes.
"""

from dataclasses import replace
from math import isfinite

from flywheel.identity import name_of
from flywheel.records import ClassResult, Evaluation, GateVerdict, Interval, RuleResult, Verdict, as_dict
from flywheel.settings import GatePolicy

# Part of a decision's identity: the same evidence under other rules is another decision.
RULES_VERSION = 1


def judge(
    challenger: Evaluation,
    champion: Evaluation | None,
    policy: GatePolicy,
    *,
    task_id: str,
    champion_id: str | None = None,
    champion_problem: str = "",
) -> GateVerdict:
    """The verdict of all rules: fail if any fails, else not enough evidence if any lacks it, else pass.

    `champion_id` names the task's champion; it may be left out where `champion` is given. A champion without an
    evaluation (`champion_problem` says why) is never a pass.
    """
    champion_id = champion_id or (champion.model_id if champion else None)
    rules = (
        evaluation_set_rule(challenger, policy),
        top1_rule(challenger, policy),
        worst_class_rule(challenger, policy),
        calibration_rule(challenger, policy),
        champion_rule(challenger, champion, champion_id, champion_problem),
    )
    return GateVerdict(
        id=name_of("dec", gate_identity(gate_inputs(challenger, champion, task_id, champion_id), policy)),
        model_id=challenger.model_id,
        task_id=task_id,
        evaluation_id=challenger.id,
        evaluation_set_id=challenger.evaluation_set_id,
        champion_id=champion_id,
        verdict=overall(rules),
        rules=rules,
        reason=summary(rules),
    )


def gate_inputs(
    challenger: Evaluation, champion: Evaluation | None, task_id: str, champion_id: str | None
) -> dict[str, str | None]:
    """What the verdict rests on, by identity; the evidence itself by the hash of its per-image answers."""
    return {
        "task_id": task_id,
        "model_id": challenger.model_id,
        "dataset_id": challenger.dataset_id,
        "evaluation_id": challenger.id,
        "evaluation_set_id": challenger.evaluation_set_id,
        "evidence_sha256": challenger.correct_sha256,
        "champion_id": champion_id,
        "champion_evaluation_id": champion.id if champion else None,
        "champion_evidence_sha256": champion.correct_sha256 if champion else None,
    }


def gate_identity(inputs: dict[str, str | None], policy: GatePolicy) -> dict[str, object]:
    """What a gate decision's name is the hash of: its kind, its inputs, its policy."""
    return {"kind": "gate", "inputs": inputs, "policy": gate_policy(policy)}


def gate_policy(policy: GatePolicy) -> dict[str, object]:
    """The policy as it is recorded: its settings and the version of the rules that read them."""
    return {**policy.model_dump(mode="json"), "rules_version": RULES_VERSION}


def gate_evidence(challenger: Evaluation, champion: Evaluation | None) -> dict[str, object]:
    """What was measured, as it is recorded: enough to judge again under another policy.

    Without the confusion matrices, which no rule reads and which are megabytes at 1,000 classes.
    """
    measured = {"challenger": challenger, "champion": champion}
    return {role: as_dict(replace(found, confusion=())) for role, found in measured.items() if found is not None}


def overall(rules: tuple[RuleResult, ...]) -> Verdict:
    """One verdict of many; no rules at all is not enough evidence."""
    verdicts = {rule.verdict for rule in rules}
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return Verdict.PASS if verdicts == {Verdict.PASS} else Verdict.NOT_ENOUGH_EVIDENCE


def summary(rules: tuple[RuleResult, ...]) -> str:
    """The reasons of the rules that did not pass, or that all did."""
    reasons = [rule.reason for rule in rules if rule.verdict is not Verdict.PASS]
    return " ".join(reasons) if reasons else f"All {len(rules)} rules passed."


def evaluation_set_rule(evaluation: Evaluation, policy: GatePolicy) -> RuleResult:
    """Enough images to judge on."""
    images, least = evaluation.images, policy.smallest_evaluation_set
    enough = images >= least
    return RuleResult(
        rule="evaluation set",
        value=float(images),
        threshold=float(least),
        verdict=Verdict.PASS if enough else Verdict.NOT_ENOUGH_EVIDENCE,
        reason=f"{images:,} frozen images, at least {least:,} asked for"
        + ("." if enough else f": label {least - images:,} more."),
    )


def top1_rule(evaluation: Evaluation, policy: GatePolicy) -> RuleResult:
    """Top-1's low end lies above always answering the most common class, by a share of what is left.

    Its high end below the floor is a fail; an interval that holds the floor is not enough evidence.
    """
    majority = evaluation.majority_rate
    floor = majority + policy.lift_over_majority * (1 - majority)
    if not isfinite(floor):
        return _broken("top-1", evaluation.top1.low, None, "The majority-class rate is missing or NaN.")
    told = f"the floor {floor:.3f} (majority-class rate {majority:.3f} + {policy.lift_over_majority:g} of the rest)"
    return _floor_rule("top-1", f"Top-1 {evaluation.top1}", evaluation.top1, floor, told)


def worst_class_rule(evaluation: Evaluation, policy: GatePolicy) -> RuleResult:
    """No class is given up: every class's recall has its low end at the floor or above."""
    rule, floor = "worst class recall", policy.worst_class_recall
    if not evaluation.classes:
        return _broken(rule, None, floor, "The evaluation has no per-class results.")
    results = [
        (_floor_rule(rule, _told(result), result.recall, floor, f"the floor {floor:.3f}"), result)
        for result in evaluation.classes
    ]
    severity = (Verdict.FAIL, Verdict.NOT_ENOUGH_EVIDENCE, Verdict.PASS)
    return min(results, key=lambda pair: (severity.index(pair[0].verdict), pair[1].recall.low))[0]


def _told(result: ClassResult) -> str:
    return f"Worst class “{result.label}”: recall {result.recall} on {result.images:,} images"


def calibration_rule(evaluation: Evaluation, policy: GatePolicy) -> RuleResult:
    """Confidence can be believed: the expected calibration error is small."""
    rule, largest, ece = "ECE", policy.largest_ece, evaluation.ece
    if not (isfinite(ece) and 0 <= ece <= 1):
        return _broken(rule, ece, largest, f"The expected calibration error is {ece}, a share was expected.")
    calibrated = ece <= largest
    return RuleResult(
        rule=rule,
        value=ece,
        threshold=largest,
        verdict=Verdict.PASS if calibrated else Verdict.FAIL,
        reason=f"ECE {ece:.3f} is {'within' if calibrated else 'above'} {largest:.3f}.",
    )


def champion_rule(
    challenger: Evaluation, champion: Evaluation | None, champion_id: str | None, problem: str = ""
) -> RuleResult:
    """Not worse than the champion on the same frozen set; a task's first model has none to meet."""
    rule, value = "champion", challenger.top1.value
    if not isfinite(value):
        return _broken(rule, value, None, "The challenger's top-1 is NaN.")
    if champion_id is None:
        return RuleResult(rule, value, None, Verdict.PASS, "The task has no champion yet: the floors alone judge.")
    if champion_id == challenger.model_id:
        return RuleResult(rule, value, value, Verdict.PASS, f"{champion_id} is the champion itself.")
    if champion is None or champion.model_id != champion_id:
        why = problem or "no evaluation of it on this frozen set was given"
        return _unknown(rule, value, f"The champion {champion_id} can't be compared: {why}. It stays.")
    return _compare(rule, challenger, champion)


def _compare(rule: str, challenger: Evaluation, champion: Evaluation) -> RuleResult:
    value, threshold = challenger.top1.value, champion.top1.value
    if not isfinite(threshold):
        return _unknown(rule, value, f"The champion {champion.model_id} has a top-1 that is NaN. It stays.")
    if (champion.evaluation_set_id, champion.images) != (challenger.evaluation_set_id, challenger.images):
        return _unknown(
            rule,
            value,
            f"The champion {champion.model_id} was measured on {champion.evaluation_set_id} ({champion.images:,} "
            f"images), the challenger on {challenger.evaluation_set_id} ({challenger.images:,} images): "
            "they can't be compared.",
        )
    worse = value < threshold
    return RuleResult(
        rule=rule,
        value=value,
        threshold=threshold,
        verdict=Verdict.FAIL if worse else Verdict.PASS,
        reason=f"Top-1 {value:.4f} is {'below' if worse else 'not below'} the champion {champion.model_id}'s "
        f"{threshold:.4f} on the same {challenger.images:,} images.",
    )


def _floor_rule(rule: str, told: str, measured: Interval, floor: float, told_floor: str) -> RuleResult:
    """The low end of an interval against a floor; `value` is that low end."""
    if not _is_share(measured):
        return _broken(rule, measured.low, floor, f"{told}: a share with its interval was expected.")
    if measured.low >= floor:
        return RuleResult(rule, measured.low, floor, Verdict.PASS, f"{told}: the low end reaches {told_floor}.")
    if measured.high < floor:
        return RuleResult(rule, measured.low, floor, Verdict.FAIL, f"{told}: all of it lies below {told_floor}.")
    reason = f"{told}: the interval still holds {told_floor}. More labelled images would tell."
    return RuleResult(rule, measured.low, floor, Verdict.NOT_ENOUGH_EVIDENCE, reason)


def _is_share(measured: Interval) -> bool:
    return 0 <= measured.low <= measured.value <= measured.high <= 1  # False for NaN


def _broken(rule: str, value: float | None, threshold: float | None, reason: str) -> RuleResult:
    number = value if value is not None and isfinite(value) else None
    return RuleResult(rule, number, threshold, Verdict.FAIL, reason)


def _unknown(rule: str, value: float, reason: str) -> RuleResult:
    return RuleResult(rule, value, None, Verdict.NOT_ENOUGH_EVIDENCE, reason)

"""May a model become champion? Pure rules over recorded evidence: no model, no disk, no database.

Every rule answers pass, fail or not enough evidence. What is missing, NaN or empty never passes.
"""

from typing import Any

from flywheel.evaluation.evidence import GateEvidence
from flywheel.evaluation.rules.comparison import champion_rule
from flywheel.evaluation.rules.drifted import drifted_rule
from flywheel.evaluation.rules.floors import calibration_rule, evaluation_set_rule, top1_rule, worst_class_rule
from flywheel.evaluation.rules.integrity import leak_rule, parity_rule
from flywheel.evaluation.rules.regressions import latency_rule, robustness_rule, size_rule
from flywheel.evaluation.rules.slices import slices_rule
from flywheel.identity import name_of
from flywheel.policies import GatePolicy, RetrainingGatePolicy
from flywheel.records import GateVerdict, RuleResult, Verdict

# Part of a decision's identity: the same evidence under other rules is another decision.
RULES_VERSION = 4

Inputs = dict[str, str | None]


def judge(evidence: GateEvidence, policy: GatePolicy, inputs: Inputs) -> GateVerdict:
    """The verdict of all rules: fail if any fails, else not enough evidence if any lacks it, else pass.

    `inputs` are the identities that the evidence rests on; with the policy they name the decision.
    """
    challenger = evidence.challenger
    comparison, promotes_as = champion_rule(evidence, policy)
    rules = (
        leak_rule(evidence),
        parity_rule(evidence),
        evaluation_set_rule(challenger, policy),
        top1_rule(challenger, policy),
        worst_class_rule(challenger, policy),
        calibration_rule(evidence, policy),
        comparison,
        *(_against_champion(evidence, policy) if meets_champion(evidence) else ()),
        *((drifted_rule(evidence, policy),) if isinstance(policy, RetrainingGatePolicy) else ()),
    )
    verdict = overall(rules)
    return GateVerdict(
        id=name_of("dec", gate_identity(inputs, policy)),
        model_id=challenger.model_id,
        task_id=evidence.task_id,
        evaluation_id=challenger.id,
        evaluation_set_id=challenger.evaluation_set_id,
        champion_id=evidence.champion_id,
        verdict=verdict,
        rules=rules,
        reason=summary(rules, evidence.problems),
        anchor_id=evidence.anchor_id,
        promotes_as=promotes_as if verdict is Verdict.PASS else None,
    )


def meets_champion(evidence: GateEvidence) -> bool:
    """A task's first model meets none, nor does the champion itself: the floors alone judge them."""
    return evidence.champion_id not in (None, evidence.challenger.model_id)


def _against_champion(evidence: GateEvidence, policy: GatePolicy) -> tuple[RuleResult, ...]:
    return (
        slices_rule(evidence, policy),
        robustness_rule(evidence, policy),
        latency_rule(evidence, policy),
        size_rule(evidence, policy),
    )


def gate_identity(inputs: Inputs, policy: GatePolicy) -> dict[str, Any]:
    """What a gate decision's name is the hash of: its kind, its inputs, its policy."""
    return {"kind": "gate", "inputs": inputs, "policy": gate_policy(policy)}


def gate_policy(policy: GatePolicy) -> dict[str, Any]:
    """The policy as it is recorded: its settings and the version of the rules that read them."""
    return {**policy.model_dump(mode="json"), "rules_version": RULES_VERSION}


def policy_of(recorded: dict[str, Any]) -> GatePolicy:
    """The policy of a recorded decision again."""
    kind = RetrainingGatePolicy if "drifted_level" in recorded else GatePolicy
    return kind.model_validate({name: value for name, value in recorded.items() if name != "rules_version"})


def overall(rules: tuple[RuleResult, ...]) -> Verdict:
    """One verdict of many; no rules at all is not enough evidence."""
    verdicts = {rule.verdict for rule in rules}
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return Verdict.PASS if verdicts == {Verdict.PASS} else Verdict.NOT_ENOUGH_EVIDENCE


def summary(rules: tuple[RuleResult, ...], problems: dict[str, str] | None = None) -> str:
    """The reasons of the rules that did not pass, or that all did.

    What kept several rules from an answer, one of the evidence's `problems`, is told once, with the rules that it hit.
    """
    told: dict[str, list[RuleResult]] = {}  # by what they say alike, in the order of the rules
    for rule in rules:
        if rule.verdict is not Verdict.PASS:
            told.setdefault(_cause(rule, problems or {}) or rule.reason, []).append(rule)
    reasons = [hit[0].reason if len(hit) == 1 else _hit_by(cause, hit) for cause, hit in told.items()]
    return " ".join(reasons) if reasons else f"All {len(rules)} rules passed."


def _cause(rule: RuleResult, problems: dict[str, str]) -> str:
    """The shortest of the problems that a rule without an answer names: a longer one may hold it."""
    named = (text for text in problems.values() if text and text in rule.reason)
    return min(named, key=len, default="") if rule.verdict is Verdict.NOT_ENOUGH_EVIDENCE else ""


def _hit_by(cause: str, rules: list[RuleResult]) -> str:
    *names, last = [rule.rule for rule in rules]
    listed = f"{', '.join(names)} and {last}"
    return f"{listed[0].upper()}{listed[1:]} can't be judged: {cause}."

"""What another policy would have decided over the recorded evidence; the same policy decides the same bytes again."""

from collections.abc import Sequence
from dataclasses import dataclass

from flywheel.evaluation.evidence import GateEvidence
from flywheel.evaluation.gates import gate_policy, judge, policy_of
from flywheel.identity import canonical_json
from flywheel.ledger import Decision
from flywheel.policies import GatePolicy
from flywheel.records import Verdict, as_dict, from_json


@dataclass(frozen=True)
class Replayed:
    """A recorded gate decision, judged again."""

    decision_id: str
    model_id: str
    recorded: Verdict
    replayed: Verdict | None  # None: the decision holds no evidence to judge again
    same_bytes: bool  # the whole verdict, every rule of it; meant for the same policy
    reason: str


def replay(decisions: Sequence[Decision], policy: GatePolicy | None) -> list[Replayed]:
    """Each decision under the policy; None is each one's own. What the frozen set had been asked stays as it was."""
    return [_again(decision, policy) for decision in decisions]


def _again(decision: Decision, policy: GatePolicy | None) -> Replayed:
    measured = decision.evidence.get("measured")
    if measured is None or "rules_version" not in decision.policy:
        reason = "recorded before whole evidence was kept"
        return Replayed(decision.id, decision.inputs["model_id"], decision.verdict, None, False, reason)
    chosen = policy or policy_of(decision.policy)
    if policy is None and gate_policy(chosen) != decision.policy:
        reason = f"judged by rules of version {decision.policy['rules_version']}, these are others"
        return Replayed(decision.id, decision.inputs["model_id"], decision.verdict, None, False, reason)
    verdict = judge(from_json(GateEvidence, canonical_json(measured)), chosen, dict(decision.inputs))
    same = canonical_json(as_dict(verdict)) == canonical_json(decision.evidence["gate"])
    return Replayed(decision.id, verdict.model_id, decision.verdict, verdict.verdict, same, verdict.reason)

"""What another policy would have decided over the recorded evidence; the same policy decides the same bytes again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flywheel.evaluation.evidence import GateEvidence
from flywheel.evaluation.gates import gate_policy, judge, policy_of
from flywheel.identity import canonical_json
from flywheel.ledger import Decision
from flywheel.lineage.checks import check_evaluation
from flywheel.lineage.node import State
from flywheel.paths import Paths
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
    changed: tuple[str, ...] = ()  # evaluations that it rests on and that are no longer on disk as they were judged


def replay(decisions: Sequence[Decision], policy: GatePolicy | None) -> list[Replayed]:
    """Each decision under the policy; None is each one's own. What the frozen set had been asked stays as it was."""
    return [_again(decision, policy) for decision in decisions]


def with_changes(replayed: Replayed, decision: Decision, paths: Paths) -> Replayed:
    """With what is found on disk now: the ledger's own evidence is judged, and it should still be what lies there."""
    found = []
    for role in ("", "champion_", "anchor_"):
        evaluation_id = decision.inputs.get(f"{role}evaluation_id")
        if evaluation_id:
            _, check = check_evaluation(evaluation_id, decision.inputs.get(f"{role}evidence_sha256"), paths)
            found += [f"{evaluation_id}: {check.told.rstrip('.')}"] if check.state is State.CHANGED else []
    return replace(replayed, changed=tuple(dict.fromkeys(found)))


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

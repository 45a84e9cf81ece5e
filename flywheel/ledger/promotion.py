"""May this model be crowned now? Pure: it reads a gate decision and the champion, and returns a decision."""

from datetime import datetime
from enum import Enum

from flywheel.ledger.entries import Champion, Decision, Json, Kind, LedgerError, decision_id
from flywheel.records import Release, Verdict

# A promotion decides by the gate that it names. Canary and approval will be settings beside it.
POLICY: Json = {"requires": "a gate that passed against the champion of the moment"}


class Expected(Enum):
    """Which champion a promotion expects to find."""

    AS_JUDGED = "the one that the gate compared with"


def check_gate(gate: Decision, task_id: str, model_id: str) -> None:
    """Raise LedgerError unless the decision is a gate's on this model of this task."""
    if gate.kind is not Kind.GATE:
        raise LedgerError(f"{gate.id} is a {gate.kind} decision; a promotion rests on a gate's.")
    if (gate.task_id, gate.inputs.get("model_id")) != (task_id, model_id):
        raise LedgerError(
            f"{gate.id} judged {gate.inputs.get('model_id')} of {gate.task_id}, not {model_id} of {task_id}. "
            "Name the gate decision of the model that is promoted."
        )


def decide(
    gate: Decision,
    current: Champion | None,
    bento_tag: str,
    expected: str | Expected | None,
    reason: str,
    artifacts: Json,
    *,
    approval: Json | None = None,
    at: datetime,
    code: str,
) -> Decision:
    """The promotion, or its refusal with the reason."""
    model_id = gate.inputs["model_id"]
    wanted = gate.inputs["champion_id"] if isinstance(expected, Expected) else expected
    refusal = _refusal(gate, current, wanted) or _declined(approval)
    inputs: Json = {
        "task_id": gate.task_id,
        "model_id": model_id,
        "bento_tag": bento_tag,
        "gate_decision_id": gate.id,
        "expected_champion_id": wanted,
        "champion_id": current.model_id if current else None,
        # a model that comes back after a rollback is promoted by a decision of its own
        "replaces": current.position if current else None,
        # what a person said is part of the question: a model that was declined may be asked about again
        **({"approval": approval} if approval is not None else {}),
    }
    return Decision(
        id=decision_id(Kind.PROMOTION, inputs, POLICY),
        kind=Kind.PROMOTION,
        task_id=gate.task_id,
        inputs=inputs,
        policy=POLICY,
        evidence={"gate_verdict": gate.verdict.value, "gate_reason": gate.reason, "artifacts": artifacts},
        verdict=Verdict.FAIL if refusal else Verdict.PASS,
        reason=refusal or reason,
        created_at=at,
        code_version=code,
    )


def _refusal(gate: Decision, current: Champion | None, wanted: str | None) -> str:
    """Why not; empty where nothing stands against it."""
    if gate.verdict is not Verdict.PASS:
        return f"Not promoted, its gate {gate.id} ended with “{gate.verdict}”: {gate.reason}"
    found = current.model_id if current else None
    if found not in (wanted, gate.inputs["model_id"]):
        return (
            f"Not promoted, the champion moved: {gate.id} compared with {wanted or 'no champion'}, "
            f"the champion now is {found or 'none'}. Judge again."
        )
    return ""


def _declined(approval: Json | None) -> str:
    if approval is None:
        return ""
    if not approval["who"] or not approval["reason"]:
        return "Not promoted: whoever approves or declines gives a name and a reason; both stay on record."
    return "" if approval["approved"] else f"Not promoted, declined by {approval['who']}: {approval['reason']}"


def released(decision: Decision, current: Champion | None) -> Release:
    """What became of the task's champion, `current` before it, by a promotion decision."""
    promoted = decision.verdict is Verdict.PASS
    before = current.model_id if current else None
    return Release(
        decision_id=decision.id,
        model_id=decision.inputs["model_id"],
        task_id=decision.task_id,
        bento_tag=decision.inputs["bento_tag"],
        promoted=promoted,
        champion_id=decision.inputs["model_id"] if promoted else before,
        previous_id=before,
        reason=decision.reason,
    )


def standing(champion: Champion) -> Release:
    """Nothing to do: the model is champion already, with this Bento."""
    return Release(
        decision_id=champion.decision_id,
        model_id=champion.model_id,
        task_id=champion.task_id,
        bento_tag=champion.bento_tag,
        promoted=False,
        champion_id=champion.model_id,
        previous_id=champion.model_id,
        reason=f"{champion.model_id} is the champion already, since {champion.since:%Y-%m-%d %H:%M} UTC.",
    )

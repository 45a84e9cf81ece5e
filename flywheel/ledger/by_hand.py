"""What a person decides about a champion: to force a model in, or to go back to the one before. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from flywheel.ledger.entries import Champion, Decision, Json, Kind, decision_id
from flywheel.records import Verdict

FORCE_POLICY: Json = {"requires": "a person with a reason, and a model and a Bento that are whole"}
ROLLBACK_POLICY: Json = {"requires": "an earlier champion whose model and Bento are whole"}


def forced(
    gate: Decision,
    bento_tag: str,
    current: Champion | None,
    artifacts: Json,
    *,
    reason: str,
    who: str,
    at: datetime,
    code: str,
) -> Decision:
    """A model's way past its gate: the gate's verdict stays on record beside the name and the reason."""
    inputs = {"model_id": gate.inputs["model_id"], "bento_tag": bento_tag, "gate_decision_id": gate.id, "who": who}
    evidence = {"gate_verdict": gate.verdict.value, "gate_reason": gate.reason, "artifacts": artifacts}
    return _decision(Kind.FORCE, gate.task_id, inputs, current, FORCE_POLICY, evidence, reason, at, code)


def rolled_back(
    target: Champion,
    made_by: Decision,
    current: Champion,
    artifacts: Json,
    *,
    reason: str,
    who: str,
    at: datetime,
    code: str,
) -> Decision:
    """The way back to `target`, whom the decision `made_by` made champion in its time."""
    inputs = {
        "model_id": target.model_id,
        "bento_tag": target.bento_tag,
        "gate_decision_id": made_by.inputs["gate_decision_id"],
        "restores": target.position,
        "restores_decision_id": made_by.id,
        "who": who,
    }
    evidence = {"artifacts": artifacts}
    return _decision(Kind.ROLLBACK, target.task_id, inputs, current, ROLLBACK_POLICY, evidence, reason, at, code)


def _decision(
    kind: Kind,
    task_id: str,
    inputs: Json,
    current: Champion | None,
    policy: Json,
    evidence: Json,
    reason: str,
    at: datetime,
    code: str,
) -> Decision:
    replaced = {"champion_id": current.model_id if current else None, "replaces": current.position if current else None}
    inputs = {"task_id": task_id, **inputs, **replaced}
    return Decision(
        id=decision_id(kind, inputs, policy),
        kind=kind,
        task_id=task_id,
        inputs=inputs,
        policy=policy,
        evidence=evidence,
        verdict=Verdict.PASS,
        reason=reason,
        created_at=at,
        code_version=code,
    )


def previous_champion(history: Sequence[Champion], decisions: Mapping[str, Decision]) -> Champion | None:
    """The champion before the current one, or None. `history` is a task's, the oldest first.

    Rollbacks are steps back, not new champions: after one, the previous is that of the champion it went back to, so a
    second rollback goes further back and never forward again.
    """
    if not history:
        return None
    current = _origin(history[-1], history, decisions)
    earlier = [each for each in history if each.position < current.position]
    return _origin(earlier[-1], history, decisions) if earlier else None


def anchor_of(history: Sequence[Champion], decisions: Mapping[str, Decision]) -> str | None:
    """The model that non-inferiority is measured from: the last one that was promoted as superior, or the first.

    `history` is a task's, the oldest first; `decisions` are those that it names and their gates', by id. A gate without
    `promotes_as`, from before there was one, counts as superior. A forced model is the anchor as well: a person decided
    that the task goes on from there. After a rollback the anchor is what it was when that champion was promoted.
    """
    anchors: dict[int, str] = {}
    anchor: str | None = None
    for champion in history:
        decision = decisions[champion.decision_id]
        if decision.kind is Kind.ROLLBACK:
            anchor = anchors[decision.inputs["restores"]]
        elif anchor is None or decision.kind is Kind.FORCE or _superior(decision, decisions):
            anchor = champion.model_id
        anchors[champion.position] = anchor
    return anchor


def _superior(promotion: Decision, decisions: Mapping[str, Decision]) -> bool:
    gate = decisions[promotion.inputs["gate_decision_id"]].evidence["gate"]
    return gate.get("promotes_as", "superior") in {"first", "superior"}


def _origin(champion: Champion, history: Sequence[Champion], decisions: Mapping[str, Decision]) -> Champion:
    """The champion's own promotion, where this row is a rollback to it, or a release of the same again."""
    decision = decisions[champion.decision_id]
    while decision.kind is Kind.ROLLBACK:
        champion = next(each for each in history if each.position == decision.inputs["restores"])
        decision = decisions[champion.decision_id]
    return champion

"""Gates and promotions as the flows record them, on models that are names only."""

from datetime import UTC, datetime

from flywheel.identity import name_of
from flywheel.ledger import Ledger
from flywheel.records import GateVerdict, Release, RuleResult, Verdict

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = {"largest_ece": 0.15}


def gate(
    ledger: Ledger,
    model="model-a",
    champion=None,
    verdict=Verdict.PASS,
    task="task-1",
    policy=POLICY,
    clock=None,
) -> GateVerdict:
    inputs = {"model_id": model, "task_id": task, "champion_id": champion, "evaluation_id": f"eval-{model}"}
    judged = GateVerdict(
        id=name_of("dec", {"kind": "gate", "inputs": inputs, "policy": policy}),
        model_id=model,
        task_id=task,
        evaluation_id=f"eval-{model}",
        evaluation_set_id="evalset-1",
        champion_id=champion,
        verdict=verdict,
        rules=(RuleResult("ECE", 0.1, 0.15, verdict, "ECE 0.100 is within 0.150."),),
        reason="All 1 rules passed." if verdict is Verdict.PASS else "ECE is too large.",
    )
    clock = clock or (lambda: NOON)
    return ledger.record_gate(judged, inputs=inputs, policy=policy, evidence={"images": 100}, clock=clock)


def promote(ledger: Ledger, model="model-a", champion=None, bento="", **more) -> Release:
    """Through its gate."""
    judged = gate(ledger, model, champion)
    bento = bento or f"classifier:{model}"
    return ledger.promote("task-1", model, bento, judged.id, "passed its gate", lambda: NOON, **more)


def force(ledger: Ledger, model: str, champion=None, who="ada", reason="We know why.") -> Release:
    """Past its gate."""
    judged = gate(ledger, model, champion, Verdict.FAIL)
    decision = ledger.decision(judged.id)
    return ledger.force(
        decision, f"classifier:{model}", reason=reason, who=who, artifacts={"weights_sha256": "0"}, clock=lambda: NOON
    )


def rollback(ledger: Ledger, task="task-1") -> Release:
    """To the champion before."""
    current, target = ledger.champion(task), ledger.previous_champion(task)
    return ledger.rollback(current, target, reason="It drifts.", who="ada", artifacts={}, clock=lambda: NOON)

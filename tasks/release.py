"""The one task that moves a champion."""

from flywheel.ledger import open_ledger
from flywheel.records import Release
from flywheel.settings import Settings
from tasks.reporting import stage


@stage("release", "release {bento_tag}")
def promote(gate_decision: str, bento_tag: str) -> Release:
    """Make the judged model champion of its task, in one transaction with the decision; or record why not."""
    ledger = open_ledger(Settings())
    gate = ledger.decision(gate_decision)
    return ledger.promote(
        gate.task_id, gate.inputs["model_id"], bento_tag, gate.id, f"It passed its gate {gate.id}: {gate.reason}"
    )

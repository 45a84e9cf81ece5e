"""Two rules of the Prefect server that mend what a `kill -9` leaves: a run that says nothing more, and a crashed run.

A flow run sends a heartbeat every 30 s. When its process and the worker are both gone, nobody else tells the server;
so a run without a heartbeat is marked crashed, and a crashed run of a deployment is scheduled again. It goes on from
what lies on disk. A flow gives up after a few tries (`tasks.retries.stop_after_crashes`).
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

SILENT_SECONDS = 100  # three missed heartbeats and some
ENDS = frozenset(
    f"prefect.flow-run.{state}"
    for state in ("Completed", "Failed", "Cancelled", "Crashed", "Paused", "Suspended", "AwaitingRetry")
)
BEAT, CRASH = "prefect.flow-run.heartbeat", "prefect.flow-run.Crashed"
SETTLED_SECONDS = 30
SILENT, CRASHED = "flywheel-silent-runs", "flywheel-crashed-runs"


def silent_runs(flows: Sequence[str]) -> AutomationCore:
    """A run of these flows that sent heartbeats and neither beats nor ends is marked crashed."""
    trigger = EventTrigger(
        after={BEAT},
        expect={BEAT, *ENDS},
        match={"prefect.resource.id": ["prefect.flow-run.*"]},
        match_related={"prefect.resource.role": "flow", "prefect.resource.name": list(flows)},
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=SILENT_SECONDS),
    )
    message = f"No heartbeat for {SILENT_SECONDS} s: its process was killed, or the machine slept."
    action = ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=message)
    return AutomationCore(
        name=SILENT, description="Marks runs whose process is gone.", trigger=trigger, actions=[action]
    )


def crashed_runs(deployments: Sequence[str]) -> AutomationCore:
    """A crashed run of these deployments runs again; one that a person started by `make run` has no worker.

    Not at once: the worker reports a crash a second time, seen 10 s after the first, and that would end the new try.
    """
    trigger = EventTrigger(
        after={CRASH},
        expect={"prefect.flow-run.Running", *(ENDS - {CRASH})},
        match={"prefect.resource.id": ["prefect.flow-run.*"]},
        match_related={"prefect.resource.role": "deployment", "prefect.resource.name": list(deployments)},
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=SETTLED_SECONDS),
    )
    message = "Crashed, and tried again; finished stages and the last checkpoint are on disk."
    action = ChangeFlowRunState(state=StateType.SCHEDULED, name="AwaitingRetry", message=message, force=True)
    return AutomationCore(name=CRASHED, description="Tries crashed runs again.", trigger=trigger, actions=[action])


def make_automations(client: SyncPrefectClient, flows: Sequence[str], deployments: Sequence[str]) -> None:
    """Both rules, once: those that stand already are brought up to date, and doubled ones removed."""
    for rule in (silent_runs(flows), crashed_runs(deployments)):
        standing = client.read_automations_by_name(rule.name)
        for extra in standing[1:]:
            client.delete_automation(extra.id)
        if not standing:
            client.create_automation(rule)
        elif _content(standing[0]) != _content(rule):
            client.update_automation(standing[0].id, rule)  # it then forgets what it waits for


def _content(rule: AutomationCore) -> dict[str, Any]:
    """Without the ids, which each side draws for itself; its sets are sets, since a list of them has no one order."""
    document = rule.model_dump(include=set(AutomationCore.model_fields))
    document["trigger"].pop("id", None)
    return document

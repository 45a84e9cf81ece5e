"""What a rehearsal asks of the Prefect server: to look in the worker, and which runs its event has started."""

from datetime import datetime
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterStartTime
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from tasks.rehearsing import MONITOR

FLOWS = ("retrain-classifier", "release-classifier", "monitor-classifier")
LOOK_SECONDS = 180.0
LIVING = {"SCHEDULED", "PENDING", "RUNNING", "CRASHED"}  # a crashed run is tried again


def start_look(task_id: str) -> bool:
    """A look by the deployment, in the worker; False where there is none, or it did not end well."""
    try:
        run = run_deployment(MONITOR, parameters={"task": task_id}, timeout=LOOK_SECONDS, as_subflow=False)
    except ObjectNotFound:
        return False
    return bool(run.state and run.state.is_completed())


def runs_since(began: datetime) -> list[dict[str, Any]]:
    """Id, flow, deployment, who started it, name and state of each."""
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=list(FLOWS))),
            flow_run_filter=FlowRunFilter(start_time=FlowRunFilterStartTime(after_=began)),
        )
        names = {each.id: each.name for each in client.read_flows()}
        deployments = {each.id: each.name for each in client.read_deployments()}
        return [
            {
                "id": str(run.id),
                "flow": names.get(run.flow_id, ""),
                "deployment": deployments.get(run.deployment_id, ""),
                "started_by": (run.created_by.type or "") if run.created_by else "",
                "name": run.name,
                "state": run.state_name or "",
            }
            for run in sorted(runs, key=lambda run: run.created or began)
            if run.start_time is not None  # a schedule's next runs are no part of it
        ]


def under_way(began: datetime) -> bool:
    """Whether a retraining that began, or is to begin, since then has not ended."""
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=["retrain-classifier"])))
    return any(
        run.state is not None and run.state.type.value in LIVING and (run.created or began) >= began for run in runs
    )

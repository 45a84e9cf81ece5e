"""`make status`: processes, champion and service, deployments, last runs and next runs, on one screen."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from deployments.registration import use_server
from deployments.stack import KEEPER, REPORTS, SERVER, WORKER, Stack
from deployments.watched import moment, table_of, watched
from flywheel.settings import Settings
from tasks.addresses import answers

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

LAST, NEXT = 8, 4
ILL = ("Failed", "Crashed", "Cancelled", "TimedOut")  # whose reasons are told
COLOURS = {"Completed": "green", "Running": "cyan", "Failed": "red", "Crashed": "red", "Cancelled": "yellow"}


def main() -> int:
    """0 when server and worker live, else 1: a script may ask."""
    console = Console() if sys.stdout.isatty() else Console(width=160)
    stack = Stack(Settings()).as_it_runs()
    console.print(_processes(stack))
    console.print(watched(stack.settings))
    if not answers(f"{stack.api}/health") or not stack.book.living(SERVER):
        console.print("The Prefect server does not run: 'make up' starts it.", style="yellow")
        return 1
    use_server(stack)
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        _print_runs(client, console)
    if not stack.book.living(WORKER):
        console.print("No worker lives, so nothing is started: 'make up' starts one.", style="yellow")
        return 1
    return 0


def _processes(stack: Stack) -> Table:
    table = table_of("process", "state", "pid", "since", "where")
    logs = f"{stack.settings.paths.state.name}/logs"  # in the home
    where = {SERVER: stack.ui, REPORTS: stack.reports, WORKER: f"{logs}/worker.log", KEEPER: f"{logs}/keeper.log"}
    for name in (SERVER, WORKER, REPORTS, KEEPER):
        noted = stack.book.read(name)
        state = "[dim]not started[/]" if noted is None else "[green]runs[/]" if noted.alive else "[red]died[/]"
        pid, since = (str(noted.pid), moment(noted.started)) if noted and noted.alive else ("", "")
        table.add_row(name, state, pid, since, where[name])
    return table


def _print_runs(client: "SyncPrefectClient", console: Console) -> None:
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    flows = {flow.id: flow.name for flow in client.read_flows()}
    deployments = sorted(client.read_deployments(), key=lambda each: each.name)
    names = {each.id: f"{flows.get(each.flow_id, '?')}/{each.name}" for each in deployments}
    waiting = FlowRunFilter.model_validate({"state": {"type": {"any_": ["SCHEDULED"]}}})
    begun = FlowRunFilter.model_validate({"state": {"type": {"not_any_": ["SCHEDULED"]}}})
    last = client.read_flow_runs(flow_run_filter=begun, sort=FlowRunSort.START_TIME_DESC, limit=LAST)
    coming = client.read_flow_runs(flow_run_filter=waiting, sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC, limit=NEXT)
    console.print(_deployments(deployments, names, last))
    console.print(_runs("last runs", last, names, flows))
    for run in last:
        if run.state_name in ILL and run.state and run.state.message:
            reason = run.state.message.partition("\n")[0]
            console.print(f"  {run.name}, {run.state_name}: {reason}", markup=False, highlight=False, soft_wrap=True)
    console.print(_runs("next runs", coming, names, flows) if coming else "No run is scheduled.")


def _deployments(deployments: Iterable[Any], names: dict[Any, str], last: list["FlowRun"]) -> Table:
    table = table_of("deployment", "schedule", "last state")
    for each in deployments:
        schedules = ", ".join(
            f"{getattr(one.schedule, 'cron', None) or one.schedule}{'' if one.active else ' (paused)'}"
            for one in each.schedules
        )
        run = next((run for run in last if run.deployment_id == each.id), None)
        table.add_row(names[each.id], schedules or "[dim]by hand[/]", _state(run) if run else "")
    return table


def _runs(title: str, runs: Iterable["FlowRun"], names: dict[Any, str], flows: dict[Any, str]) -> Table:
    table = table_of(title, "state", "started", "seconds", "of", "id")
    for run in runs:
        start = run.start_time or run.expected_start_time
        took = f"{run.estimated_run_time.total_seconds():.0f}" if run.start_time else ""
        source = names.get(run.deployment_id) or f"{flows.get(run.flow_id, '?')} (make run)"
        table.add_row(run.name, _state(run), moment(start.timestamp()) if start else "", took, source, str(run.id))
    return table


def _state(run: "FlowRun") -> str:
    name = run.state_name or "?"
    return f"[{COLOURS.get(name, 'default')}]{name}[/]"


if __name__ == "__main__":
    sys.exit(main())

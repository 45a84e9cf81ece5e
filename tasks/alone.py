"""One run of a deployment at a time: the one that was due first goes on, a later one is cancelled and says why.

Of a schedule's runs that were missed while the machine slept, the last one goes on and the others are cancelled.

Prefect's own limit lets in whichever its worker happens to submit first, and names no run.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import TYPE_CHECKING, NoReturn, ParamSpec, TypeVar

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

P = ParamSpec("P")
R = TypeVar("R")
LIVING = ("SCHEDULED", "PENDING", "RUNNING", "CANCELLING")
# a process is there within seconds; what is pending longer was killed together with its worker
LONGEST_PENDING = timedelta(minutes=10)
MOST_LOOKED_AT = 200


def alone(function: Callable[P, R]) -> Callable[P, R]:
    """Make a flow's function one that ends as cancelled where a run of the same deployment goes before it."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        first = run_that_goes_first()
        if first is None:
            return function(*args, **kwargs)
        cancel_for(first)

    return run


def cancel_for(first: "FlowRun") -> NoReturn:
    """End the run that this process works at as cancelled, and the process with it.

    A state that a flow returns would do so too, but Prefect then logs a traceback, as it does for a failure.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import Abort
    from prefect.logging import get_run_logger
    from prefect.logging.handlers import APILogHandler
    from prefect.runtime import flow_run
    from prefect.states import Cancelled

    said = f"{first.name} ({first.id}) of the same deployment goes on. Start this one again when that has ended."
    get_run_logger().warning("Cancelled: %s", said)
    APILogHandler().flush()  # who watches the run is shown nothing after its end, and of a state only the name
    with get_client(sync_client=True) as client:
        ended = client.set_flow_run_state(flow_run.id, Cancelled(message=said))
    signal = Abort(said)
    signal.state = ended.state  # type: ignore[attr-defined]  # read by Prefect, which else takes the run for aborted
    raise signal


def run_that_goes_first() -> "FlowRun | None":
    """The run that goes before this one; None for the first itself, and for a run that no deployment started."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort
    from prefect.runtime import deployment, flow_run

    if not deployment.id:
        return None
    now = datetime.now(UTC)
    wanted = {
        "deployment_id": {"any_": [deployment.id]},
        "state": {"type": {"any_": list(LIVING)}},
        "expected_start_time": {"before_": now.isoformat()},  # what is scheduled for later is no matter yet
    }
    of_schedule = {**wanted, "state": {"type": {"not_any_": ["CANCELLED"]}}}
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(wanted),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=MOST_LOOKED_AT,
        )
        recent = client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(of_schedule),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=MOST_LOOKED_AT,
        )
        scheduled = [run for run in recent if run.auto_scheduled]
        living = [run for run in runs if not _was_lost(run, now) and not was_missed(run, scheduled, now)]
        first = min(living, key=lambda run: (_due(client, run), run.id), default=None)
    if first is None:  # it was missed, and the later one has ended meanwhile
        first = scheduled[0] if scheduled else None
    return None if first is None or str(first.id) == str(flow_run.id) else first


def _due(client: "SyncPrefectClient", run: "FlowRun") -> datetime:
    """When its present try was to start: one that crashed comes behind whatever began meanwhile.

    Each run sees the same moments, which lie before either looks; so exactly one of two finds itself the first.
    """
    begun = run.run_count - (run.state_name == "Running")
    if begun > 0:
        scheduled = [state for state in client.read_flow_run_states(run.id) if state.is_scheduled()]
        last = max(scheduled, key=lambda state: state.timestamp, default=None)
        if last is not None:
            return last.state_details.scheduled_time or last.timestamp
    # one that starts at once is due by its client's clock, but not before it is there
    moments = [moment for moment in (run.expected_start_time, run.created) if moment is not None]
    return max(moments, default=datetime.now(UTC))


def was_missed(run: "FlowRun", scheduled: "list[FlowRun]", now: datetime) -> bool:
    """Whether a schedule's later run was due before this one began: the machine slept, and one of them is enough.

    By moments that the server knows, so that all of them find the same one.
    """
    begun, due = run.start_time or now, run.expected_start_time
    if not run.auto_scheduled or due is None:
        return False
    moments = (each.expected_start_time for each in scheduled)
    return any(each is not None and due < each <= begun for each in moments)


def _was_lost(run: "FlowRun", now: datetime) -> bool:
    return bool(run.state and run.state.is_pending() and now - run.state.timestamp > LONGEST_PENDING)

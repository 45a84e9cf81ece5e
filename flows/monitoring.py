"""`monitor-classifier`: one look at what the champion answered since the last one.

Its predictions are read from the log by position and validated; what moved is measured against the model's reference,
weighed with all looks since the release, and its cost in accuracy estimated; the diagnosis says what to do. The
decision, "nothing" too, goes to the ledger with its evidence. Nothing is trained or released here.
"""

from prefect import flow
from prefect.states import Completed, State

from flows.parameters import takes
from flywheel.ledger import Decision
from flywheel.settings import MonitorParameters
from tasks.alone import alone
from tasks.looking import begin_look, demand_window, measure_window, read_traffic, record_look, validate_window
from tasks.monitoring import NothingToWatch
from tasks.retries import stop_after_crashes


@flow(name="monitor-classifier", flow_run_name="monitor")
@alone
@takes(MonitorParameters)
def monitor_classifier(parameters: MonitorParameters) -> "Decision | State[str]":
    """Look once. A look that can't conclude anything is a decision; a window that is not as it should be fails."""
    stop_after_crashes()
    try:
        begun = begin_look(parameters)
    except NothingToWatch as nothing:  # an hourly schedule begins before there is a champion
        return Completed(message=str(nothing), name="NothingToWatch")
    came = read_traffic(begun, parameters)
    check = validate_window(begun, came, parameters)
    taken = measure_window(begun, came, check, parameters)
    decision = record_look(begun, taken, check, parameters)
    demand_window(taken)
    return decision

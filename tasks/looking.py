"""The stages of `monitor-classifier`: what `tasks.monitoring` does, as Prefect tasks, and what a run shows of it."""

from contextlib import closing
from dataclasses import dataclass
from functools import cache

from flywheel.ledger import Champion, Decision, Ledger, open_ledger
from flywheel.ledger.entries import utc_now
from flywheel.ledger.leases import open_leases
from flywheel.ledger.traffic import Judged, Traffic
from flywheel.monitoring.diagnosis import Action, oddest
from flywheel.monitoring.look import Look
from flywheel.records import ValidationResult
from flywheel.settings import MonitorParameters, Settings
from tasks.artifacts import show_validation
from tasks.monitoring import Begun, ask_for_labels, baseline_of, begin, look_at_traffic, read, record
from tasks.monitoring_page import MOST_PICTURES, Told, write_metrics, write_page
from tasks.reporting import stage
from tasks.retraining import last_asking
from tasks.watch_artifacts import emit, show_look
from tasks.window import Span, Window, check_window

MEASURE_TIMEOUT_SECONDS = 3600.0  # the first look of a model makes its baseline


class WindowRefused(Exception):  # noqa: N818 - it reads as what happened
    """The window is not as it should be: the look is recorded, nothing is concluded, and the run fails."""


class LookedMeanwhile(Exception):  # noqa: N818
    """Another monitor's look followed the same one: its decision counts, this one is not recorded."""


@dataclass(frozen=True)
class Came:
    """What came in since the look before."""

    traffic: Traffic
    span: Span | None
    judged: tuple[Judged, ...]


@dataclass(frozen=True)
class Taken:
    """A look that is not recorded yet."""

    look: Look
    window: Window | None  # where it was measured
    odd: tuple[int, ...] = ()  # places in it of the oddest images whose bytes are on disk


def begin_look(parameters: MonitorParameters) -> Begun:
    """Whose champion, and where the look before ended: resolved once, and passed on."""
    settings = Settings()
    return begin(open_ledger(settings), settings, parameters.task)


@stage("read", "read the predictions of {begun.model.id}")
def read_traffic(begun: Begun, parameters: MonitorParameters) -> Came:
    """What was answered since the look before, by position."""
    traffic, span, judged = read(begun, Settings(), parameters)
    return Came(traffic, span, tuple(judged))


@stage("validate window", "validate {came.traffic.answers} predictions")
def validate_window(begun: Begun, came: Came, parameters: MonitorParameters) -> ValidationResult | None:
    """The window's suite; None where nothing came."""
    if came.span is None:
        return None
    paths = Settings().paths
    result = check_window(
        came.traffic,
        came.span,
        begun.model.id,
        len(begun.model.classes),
        utc_now(),
        begun.usual_rate,
        parameters.window,
        paths,
    )
    show_validation(result, paths)
    return result


@stage("measure", "measure the window of {begun.model.id}", timeout_seconds=MEASURE_TIMEOUT_SECONDS)
def measure_window(begun: Begun, came: Came, check: ValidationResult | None, parameters: MonitorParameters) -> Taken:
    """Drift, alarm, estimated accuracy, diagnosis."""
    baseline = cache(lambda: baseline_of(begun.model, Settings().paths))  # only where there is enough to measure
    look, window = look_at_traffic(begun, came.traffic, came.span, list(came.judged), check, baseline, parameters)
    if window is None:
        return Taken(look, None)
    furthest = oddest(baseline(), window.sample, len(window.sample))
    return Taken(look, window, tuple(place for place in furthest if window.kept[place])[:MOST_PICTURES])


@stage("record", "record the look at {begun.model.id}")
def record_look(begun: Begun, taken: Taken, check: ValidationResult | None, parameters: MonitorParameters) -> Decision:
    """The decision goes to the ledger, then to people: labels are asked for, the page, the artifacts, the event."""
    settings, look, window = Settings(), taken.look, taken.window
    ledger, paths = open_ledger(settings), settings.paths
    decision = record(begun, look, parameters, ledger)
    if decision is None:
        raise LookedMeanwhile(
            f"Another monitor looked at {begun.model.id} since {begun.previous or 'its release'}: its decision counts, "
            "and nothing was read twice. 'make status' shows it."
        )
    asked = ask_for_labels(begun.champion.task_id, look, window, taken.odd, parameters, settings)
    told = Told(decision, look, begun.champion, begun.model.classes, asked, check.docs if check else None)
    page, figure = write_page(told, ledger, paths, window, taken.odd)
    write_metrics(decision, begun.champion, look, paths)
    show_look(decision, look, page, figure, paths)
    emit(decision, begun.champion, look.action)
    if look.action is not Action.RETRAIN:
        ask_again(begun.champion, ledger, settings)
    return decision


def ask_again(champion: Champion, ledger: Ledger, settings: Settings) -> None:
    """A decision that asks for a retraining, and that no run has acted on, is told of again: its event may have been
    lost. One that is told of twice is claimed once."""
    last = last_asking(ledger, champion)
    if last is None:
        return
    with closing(open_leases(settings)) as leases:
        if not leases.claimant(last.id):
            emit(last, champion, Action.RETRAIN)


def demand_window(taken: Taken) -> None:
    """Raises WindowRefused where the suite found something critical: after the record, so that the look stands."""
    if taken.look.failed:
        raise WindowRefused(f"Nothing is concluded from this window: {'; '.join(taken.look.failed)}.")

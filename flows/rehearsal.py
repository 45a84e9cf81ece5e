"""`rehearse`: the whole loop in minutes, on real servers, with real images from a held-out stream.

Clean traffic raises no alarm. Then the world moves, as the scenario says, and monitoring must notice; labels come in
for a part of the traffic; the drift decision's event starts the retraining in the worker; what that makes is judged,
tried on live traffic and swapped in, or not. The champion that stood before is put back at the end.
"""

import time

from prefect import flow

from flows.monitoring import monitor_classifier
from flows.parameters import flat, takes
from flywheel.ledger import Decision
from flywheel.monitoring.diagnosis import Action
from flywheel.report.rehearsal import Played
from flywheel.settings import MonitorParameters, RehearsalParameters, Settings
from tasks.alone import alone
from tasks.rehearsal_artifacts import show_rehearsal
from tasks.rehearsal_runs import runs_since, start_look, under_way
from tasks.rehearsing import (
    Stage,
    demand_quiet,
    is_over,
    keep,
    last_look,
    move_the_world,
    on_stage,
    played,
    put_back,
    retrainings,
    send_asked_labels,
    send_labels,
    wait_for_retraining,
    watch_once,
)


@flow(name="rehearse", flow_run_name="rehearse {scenario}")
@alone
@takes(RehearsalParameters)
def rehearse(parameters: RehearsalParameters) -> Played:
    """Play one scenario, and say how it ended."""
    settings, began = Settings(), time.monotonic()
    demand_quiet(settings)
    with on_stage(parameters, settings) as stage:
        try:
            stage.note("clean traffic")
            for _ in range(parameters.clean_looks):
                watch_once(stage, lambda: look_here(parameters))
            move_the_world(stage)
            noticed = watch_until_noticed(stage)
            if noticed:
                send_labels(stage)
                retrain(stage)
            if stage.ledger.champion(stage.champion.task_id) != stage.champion:
                watch_once(stage, lambda: look_here(parameters))
            found = played(stage, retrainings(stage), runs_since(stage.began), (time.monotonic() - began) / 60)
        finally:
            put_back(stage, settings)
    show_rehearsal(found, keep(found, settings.paths))
    return found


def look_here(parameters: RehearsalParameters) -> Decision | None:
    """One look, as a subflow of this run."""
    given = MonitorParameters(task=parameters.task)
    found = monitor_classifier(**flat(given))
    return found if isinstance(found, Decision) else None


def watch_until_noticed(stage: Stage) -> bool:
    """Looks until one asks for a retraining, the first of them in the worker; False where none does. Labels that one
    asks for come in."""
    for number in range(stage.parameters.most_looks):

        def look(number: int = number) -> Decision | None:
            if number == 0 and start_look(stage.champion.task_id):
                return last_look(stage)
            return look_here(stage.parameters)

        point = watch_once(stage, look)
        if point is not None and point.action == Action.RETRAIN.value:
            return True
        if point is not None and point.action == Action.ASK.value:
            send_asked_labels(stage)
    return False


def retrain(stage: Stage) -> None:
    """Wait for the run that the event started; where labels came too late for it, the next look asks again."""
    for _ in range(stage.parameters.most_looks):
        known = len(retrainings(stage))
        found = wait_for_retraining(stage, known, stage.parameters.patience_seconds, lambda: under_way(stage.began))
        if is_over(found) or (found is not None and stage.scenario.attack):
            return
        watch_once(stage, lambda: look_here(stage.parameters))

"""`make run`, `make train`, `make data`: the flows in one process, with live progress and a summary.

Where no Prefect server is named by `PREFECT_API_URL`, Prefect starts an embedded one, once for the whole run.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable

from pydantic import ValidationError
from rich.console import Console

from flows.command_line import add_options, explain, parameters_from
from flows.console import ConsoleReporter
from flows.estimate import Estimate
from flows.summary import print_data, print_outcome
from flywheel.settings import ReleaseParameters, Settings, TrainingParameters, make_state_folder

OURS = {"flywheel", "expectations", "tasks", "flows"}
FAILED, MISUSED, INTERRUPTED = 1, 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Run until the stage that was asked for. A model that is not promoted is a result, not a failure."""
    parser = argparse.ArgumentParser(prog="python -m flows.run", description=__doc__)
    parser.add_argument("--until", choices=["data", "train", "release"], default="release", help="where to stop")
    add_options(parser)
    given = parser.parse_args(arguments)
    # a log file has no width of its own, and folded lines are hard to search
    console = Console() if sys.stdout.isatty() else Console(width=160)
    try:
        parameters = parameters_from(given)
    except ValidationError as error:
        print(explain(error), file=sys.stderr)  # noqa: T201
        return MISUSED
    try:
        _run(parameters, given.until, console)
    except KeyboardInterrupt:
        console.print("\nInterrupted. The champion is untouched; the same command goes on from here.", style="yellow")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the border where a whole run is reported as failed
        return _failed(error, console)
    return 0


def _run(parameters: TrainingParameters, until: str, console: Console) -> None:
    make_state_folder(Settings())
    # what Prefect logs goes to its server; a person gets the reporter's lines and one clear error
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    if not os.environ.get("PREFECT_API_URL"):
        console.print("Starting a Prefect server for this run, as PREFECT_API_URL names none ...", style="dim")
    from tasks.reporting import reporting_to  # imports Prefect, which reads its environment then

    began = time.monotonic()
    with ConsoleReporter(console, Estimate(parameters, until, time.monotonic)) as reporter, reporting_to(reporter):
        show = _flows(parameters, until)
    show(console, time.monotonic() - began)


def _flows(parameters: TrainingParameters, until: str) -> Callable[[Console, float], None]:
    """Run the flows; returns what prints their summary."""
    from flows.release import release_classifier
    from flows.training import prepare_data, train_classifier
    from flywheel.model.initial_weights import find_initial_weights, pack_for

    if until == "data":
        data = prepare_data(pack_for(parameters.data, find_initial_weights(parameters.recipe)))
        return lambda console, seconds: print_data(console, data, seconds)
    outcome = train_classifier(parameters)
    release = None
    if until == "release":
        release = release_classifier(ReleaseParameters(gate_decision=outcome.gate.id, bento_tag=outcome.bento.tag))
    return lambda console, seconds: print_outcome(console, outcome, release, seconds)


def _failed(error: Exception, console: Console) -> int:
    """Our own errors say what to do; any other is shown whole, since it is a defect."""
    if type(error).__module__.partition(".")[0] in OURS:
        console.print(f"\n{error}", style="red", markup=False, highlight=False, soft_wrap=True)
    else:
        console.print_exception()
        console.print("This is a defect of flywheel or of a library under it. Nothing was promoted.", style="red")
    return FAILED


if __name__ == "__main__":
    sys.exit(main())

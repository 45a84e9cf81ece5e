"""`make run`, `make train`, `make data`: the flows in one process, with live progress and a summary.

They report to the server that `PREFECT_API_URL` names, else to that of `make up` while it runs; where there is none,
one is started for this run.
"""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from pydantic import ValidationError
from rich.console import Console

from flows.command_line import add_options, explain, parameters_from
from flows.console import ConsoleReporter
from flows.estimate import Estimate
from flows.parameters import flat
from flows.server import RunServer, ServerError
from flows.summary import print_data, print_outcome
from flywheel.settings import PROJECT, Settings, TrainingParameters, make_state_folder
from tasks.addresses import PREFECT_TOML, answers, prefect_api_url, remove_prefect_toml
from tasks.interruption import listen, was_interrupted

OURS = {"flywheel", "expectations", "tasks", "flows", "__main__"}
FAILED, MISUSED, INTERRUPTED = 1, 2, 130
SECONDS_FOR_SERVERS = 5.0  # of an interrupted run, to end


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
    listen(lambda: _leave_at_once(_interrupted(console)))
    try:
        _run(parameters, given.until, console)
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001 - the border where a run is reported as failed
        return _interrupted(console) if was_interrupted() else _failed(error, console)
    return 0


def _run(parameters: TrainingParameters, until: str, console: Console) -> None:
    make_state_folder(Settings())
    # what Prefect logs goes to its server; a person gets the reporter's lines and one clear error
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    _demand_possible(parameters, until, console)
    own = _choose_server(console)
    from tasks.reporting import reporting_to  # imports Prefect, which reads its environment then

    began = time.monotonic()
    with ConsoleReporter(console, Estimate(parameters, until, time.monotonic)) as reporter, reporting_to(reporter):
        show = _flows(parameters, until, own)
    show(console, time.monotonic() - began)


def _demand_possible(parameters: TrainingParameters, until: str, console: Console) -> None:
    """The flow asks the same; here it is said before a server is started, within seconds of the command."""
    from flywheel.data.sources import demand_source
    from flywheel.model.initial_weights import find_initial_weights, pack_for
    from tasks.training import demand_device, demand_model

    if until != "data":
        demand_device(parameters.device)
    demand_source(parameters.data.source)
    recipe = parameters.recipe
    if recipe.begins_with_weights:
        console.print(f"Finding the weights of {recipe.model} ...", style="dim", markup=False, highlight=False)
    initial = find_initial_weights(recipe)
    demand_model(recipe, pack_for(parameters.data, initial).packed_size, initial)


def _choose_server(console: Console) -> RunServer | None:
    """Before Prefect is imported: it reads its environment, and `prefect.toml`, then. Returns one that was started."""
    if given := os.environ.get("PREFECT_API_URL"):
        if given.startswith("http://") and not answers(f"{given.rstrip('/')}/health"):
            raise ServerError(
                f"PREFECT_API_URL={given}: no Prefect server answers there. Start it, or unset the variable."
            )
        return None
    url = prefect_api_url(PROJECT)
    if url and answers(f"{url}/health"):
        os.environ["PREFECT_API_URL"] = url
        console.print(f"Reporting to the Prefect server of 'make up' at {url.removesuffix('/api')}", style="dim")
        return None
    if url:
        console.print(f"{PREFECT_TOML} leads to {url}, where no server answers: removed.", style="dim")
        remove_prefect_toml(PROJECT)
    if _is_configured_elsewhere():
        return None
    console.print("Starting a Prefect server for this run, as 'make up' runs none ...", style="dim")
    own = RunServer()
    os.environ["PREFECT_API_URL"] = own.api_url
    return own


def _is_configured_elsewhere() -> bool:
    """Where a user's own `prefect.toml`, profile or Prefect home may name a server, Prefect is left to find it."""
    home = os.environ.get("PREFECT_HOME") != str(Settings().paths.state / "prefect")
    return home or "PREFECT_PROFILE" in os.environ or (PROJECT / PREFECT_TOML).exists()


def _flows(parameters: TrainingParameters, until: str, own: RunServer | None) -> Callable[[Console, float], None]:
    """Run the flows, on a server of their own once it is up; returns what prints their summary."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    import flows.release
    import flows.training  # noqa: F401 - while the server starts

    if own is None:
        return _flows_at_the_server(parameters, until)
    own.wait_until_ready()
    # nobody looks for silent runs at a server that ends with its run, and a flow waits a second for its heart to stop
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        return _flows_at_the_server(parameters, until)


def _flows_at_the_server(parameters: TrainingParameters, until: str) -> Callable[[Console, float], None]:
    from flows.release import release_classifier
    from flows.training import prepare_data, train_classifier
    from flywheel.model.initial_weights import find_initial_weights, pack_for

    if until == "data":
        packing = pack_for(parameters.data, find_initial_weights(parameters.recipe))
        data = prepare_data(**flat(packing))
        return lambda console, seconds: print_data(console, data, parameters, seconds)
    outcome = train_classifier(**flat(parameters))
    release = None
    if until == "release":
        release = release_classifier(gate_decision=outcome.gate.id, bento_tag=outcome.bento.tag)
    return lambda console, seconds: print_outcome(console, outcome, release, seconds)


def _interrupted(console: Console) -> int:
    console.print("\nInterrupted. What was finished is kept, and the same command goes on from there.", style="yellow")
    return INTERRUPTED


def _failed(error: BaseException, console: Console) -> int:
    """Our own errors say what to do; any other is shown whole, since it is a defect."""
    if type(error).__module__.partition(".")[0] in OURS:
        console.print(f"\n{error}", style="red", markup=False, highlight=False, soft_wrap=True)
    else:
        console.print_exception()
        console.print("This is a defect of flywheel or of a library under it. Nothing was promoted.", style="red")
    return FAILED


def _leave_at_once(code: int) -> NoReturn:
    """An orderly end would wait for Prefect to deliver its logs, for ever where Ctrl-C has reached its server too."""
    import psutil

    sys.stdout.flush()
    children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.terminate()
    for child in psutil.wait_procs(children, timeout=SECONDS_FOR_SERVERS)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(code)


if __name__ == "__main__":
    status = INTERRUPTED
    try:
        status = main()
    finally:  # also where the interrupt came between the lines above
        if was_interrupted():
            _leave_at_once(status)
    sys.exit(status)

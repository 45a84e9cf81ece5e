"""`make run`, `make train`, `make data`: the flows in one process, with live progress and a summary.

They report to the server that `PREFECT_API_URL` names, else to that of `make up` while it runs; where there is none,
one is started for this run.
"""

import argparse
import sys
import time
from collections.abc import Callable

from pydantic import ValidationError
from rich.console import Console

from flows.by_hand import MISUSED, at_the_server, choose_server, command, console_of_a_command, end, prepare
from flows.command_line import add_options, explain, parameters_from
from flows.console import ConsoleReporter
from flows.estimate import Estimate
from flows.parameters import flat
from flows.server import RunServer
from flows.summary import print_data, print_outcome
from flywheel.settings import TrainingParameters


def main(arguments: list[str] | None = None) -> int:
    """Run until the stage that was asked for. A model that is not promoted is a result, not a failure."""
    parser = argparse.ArgumentParser(prog="python -m flows.run", description=__doc__)
    parser.add_argument("--until", choices=["data", "train", "release"], default="release", help="where to stop")
    add_options(parser)
    given = parser.parse_args(arguments)
    try:
        parameters = parameters_from(given)
    except ValidationError as error:
        print(explain(error), file=sys.stderr)  # noqa: T201
        return MISUSED
    console = console_of_a_command()
    return command(lambda: _run(parameters, given.until, console), console)


def _run(parameters: TrainingParameters, until: str, console: Console) -> None:
    prepare()
    _demand_possible(parameters, until, console)
    own = choose_server(console)
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


def _flows(parameters: TrainingParameters, until: str, own: RunServer | None) -> Callable[[Console, float], None]:
    """Run the flows; returns what prints their summary."""

    def load() -> None:
        import flows.release
        import flows.training  # noqa: F401

    return at_the_server(own, lambda: _flows_at_the_server(parameters, until), load)


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


if __name__ == "__main__":
    end(main)

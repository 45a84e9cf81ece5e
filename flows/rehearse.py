"""`make rehearse`: the whole loop on this machine, in minutes; it starts what is not running yet."""

import argparse
import subprocess
import sys
import time

from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from flows.by_hand import FAILED, MISUSED, at_the_server, choose_server, command, console_of_a_command, end, prepare
from flows.command_line import add_fields, explain, given_fields
from flows.console import ConsoleReporter
from flows.parameters import flat
from flows.summary import print_summary, shown_path, table_of_two
from flywheel.data.sources import DIGITS, fetch_source
from flywheel.ledger import LedgerError, open_ledger
from flywheel.report.rehearsal import Played
from flywheel.settings import PROJECT, RehearsalParameters, Settings
from tasks.addresses import answers, prefect_api_url, prefect_home

SMALL_SUBSET = 500
UP, DOWN = "deployments.up", "deployments.down"


class RehearsalFailed(Exception):  # noqa: N818 - it reads as what happened
    """It did not end as its scenario must."""


def main(arguments: list[str] | None = None) -> int:
    """Play one scenario; exit code 1 where it did not end as it must."""
    parser = argparse.ArgumentParser(prog="python -m flows.rehearse", description=main.__doc__)
    add_fields(parser, RehearsalParameters)
    given = parser.parse_args(arguments)
    try:
        parameters = RehearsalParameters.model_validate(given_fields(given, RehearsalParameters))
    except ValidationError as error:
        print(explain(error, RehearsalParameters, "flows.rehearse"), file=sys.stderr)  # noqa: T201
        return MISUSED
    console = console_of_a_command()
    return command(lambda: _rehearse(parameters, console), console)


def _rehearse(parameters: RehearsalParameters, console: Console) -> None:
    prepare()
    began, settings = time.monotonic(), Settings()
    url = prefect_api_url(PROJECT)
    here = prefect_home(PROJECT) == str(settings.paths.state / "prefect")
    mine = not (url and here and answers(f"{url}/health"))
    if mine:
        console.print("Starting Prefect's server and worker, as 'make up' does ...", style="dim")
        _run(UP)
    try:
        if not _has_champion(settings, parameters):
            console.print("No champion yet: training a first one, as 'make run' does ...", style="dim")
            _train_first(settings, parameters)
        _play(parameters, console, began)
    finally:
        if mine:
            _run(DOWN)


def _play(parameters: RehearsalParameters, console: Console, began: float) -> None:
    own = choose_server(console)
    from tasks.reporting import reporting_to  # imports Prefect, which reads its environment then

    def load() -> None:
        import flows.rehearsal  # noqa: F401

    def run() -> Played:
        from flows.rehearsal import rehearse

        with ConsoleReporter(console) as reporter, reporting_to(reporter):
            return rehearse(**flat(parameters))

    found = at_the_server(own, run, load)
    _print(found, console, time.monotonic() - began)
    if not found.holds:
        raise RehearsalFailed(
            f"The rehearsal did not end as “{found.scenario}” must: {found.outcome}, {found.failed_requests} requests "
            f"failed, {found.false_alarms} false alarms. {found.reason}"
        )


def _has_champion(settings: Settings, parameters: RehearsalParameters) -> bool:
    try:
        return open_ledger(settings, create=False).champion(parameters.task or None) is not None
    except LedgerError:
        return False


def _train_first(settings: Settings, parameters: RehearsalParameters) -> None:
    """Of a small source a part is left over: the traffic are images that no model learned from."""
    source = fetch_source(parameters.source, settings)
    few = ("--SUBSET", str(SMALL_SUBSET)) if source.name == DIGITS else ()
    _run("flows.run", "--SOURCE", parameters.source, *few)


def _run(module: str, *options: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, *options], cwd=PROJECT, check=False)
    if done.returncode:
        sys.exit(FAILED)


def _print(found: Played, console: Console, seconds: float) -> None:
    from tasks.rehearsal_artifacts import rows_of

    table = table_of_two()
    for name, value in rows_of(found):
        table.add_row(name, Text(value))
    for event in found.events:
        table.add_row(f"{(event.at - found.began).total_seconds() / 60:.1f} min", Text(event.what))
    for run in found.runs:
        table.add_row("run", Text(_told(run)))
    if found.reason:
        table.add_row("reason", Text(found.reason))
    folder = Settings().paths.rehearsal(f"{found.scenario}-{found.began:%Y%m%dT%H%M%S}")
    table.add_row("picture", Text(shown_path(folder / "rehearsal.png")))
    if found.last_prediction:
        table.add_row("explain", Text(f"make explain PREDICTION={found.last_prediction}"))
    print_summary(console, table, seconds)


def _told(run: dict[str, str]) -> str:
    by = run["started_by"].lower() or ("its deployment" if run["deployment"] else "the rehearsal")
    named = f"{run['flow']}/{run['deployment']}" if run["deployment"] else run["flow"]
    return f"{named}  {run['id']}  {run['state']}  by {by}"


if __name__ == "__main__":
    end(main)

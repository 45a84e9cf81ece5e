"""`make retrain`: retrain the champion now, by hand, in this process."""

import argparse
import sys
import time

from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from flows.by_hand import MISUSED, at_the_server, choose_server, command, console_of_a_command, end, prepare
from flows.command_line import add_fields, explain, given_fields
from flows.console import ConsoleReporter
from flows.parameters import flat
from flows.summary import STYLE, print_summary, table_of_two
from flywheel.ledger import Decision
from flywheel.settings import RetrainParameters


def main(arguments: list[str] | None = None) -> int:
    """Retrain, and say what became of it. That nothing did is a result, not a failure."""
    parser = argparse.ArgumentParser(prog="python -m flows.relearn", description=main.__doc__)
    add_fields(parser, RetrainParameters)
    given = parser.parse_args(arguments)
    try:
        parameters = RetrainParameters.model_validate(given_fields(given, RetrainParameters))
    except ValidationError as error:
        print(explain(error, RetrainParameters, "flows.relearn"), file=sys.stderr)  # noqa: T201
        return MISUSED
    console = console_of_a_command()
    return command(lambda: _retrain(parameters, console), console)


def _retrain(parameters: RetrainParameters, console: Console) -> None:
    prepare()
    own, began = choose_server(console), time.monotonic()
    from tasks.reporting import reporting_to  # imports Prefect, which reads its environment then

    def load() -> None:
        import flows.retraining  # noqa: F401

    def run() -> object:
        from flows.retraining import retrain_classifier

        with ConsoleReporter(console) as reporter, reporting_to(reporter):
            return retrain_classifier(**flat(parameters))

    _print(at_the_server(own, run, load), console, time.monotonic() - began)


def _print(found: object, console: Console, seconds: float) -> None:
    table = table_of_two()
    if isinstance(found, Decision):
        verdict = Text.assemble((found.verdict.value, STYLE[found.verdict]), f"  {found.evidence['outcome']}")
        table.add_row("retraining", verdict)
        table.add_row("why", Text(found.evidence["why"]))
        table.add_row("reason", Text(found.reason))
        table.add_row("decision", found.id)
    else:
        table.add_row("retraining", Text(str(getattr(found, "message", "") or "nothing to do")))
    print_summary(console, table, seconds)


if __name__ == "__main__":
    end(main)

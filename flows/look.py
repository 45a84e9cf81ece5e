"""`make monitor`: one look at the champion's traffic, by hand, in this process."""

import argparse
import sys
import time
from typing import cast

from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from flows.by_hand import MISUSED, at_the_server, choose_server, command, console_of_a_command, end, prepare
from flows.command_line import add_fields, explain, given_fields
from flows.console import ConsoleReporter
from flows.parameters import flat
from flows.summary import STYLE, print_summary, shown_path, table_of_two
from flywheel.ledger import Decision, open_ledger
from flywheel.monitoring.look import Look, look_of
from flywheel.settings import MonitorParameters, Settings


def main(arguments: list[str] | None = None) -> int:
    """Look once, and say what was decided. Drift that was found is a result, not a failure."""
    parser = argparse.ArgumentParser(prog="python -m flows.look", description=main.__doc__)
    add_fields(parser, MonitorParameters)
    given = parser.parse_args(arguments)
    try:
        parameters = MonitorParameters.model_validate(given_fields(given, MonitorParameters))
    except ValidationError as error:
        print(explain(error, MonitorParameters, "flows.look"), file=sys.stderr)  # noqa: T201
        return MISUSED
    console = console_of_a_command()
    return command(lambda: _look(parameters, console), console)


def _look(parameters: MonitorParameters, console: Console) -> None:
    from tasks.monitoring import begin

    prepare()
    settings = Settings()
    begin(open_ledger(settings, create=False), settings, parameters.task)  # said before a server is started
    own, began = choose_server(console), time.monotonic()
    from tasks.reporting import reporting_to  # imports Prefect, which reads its environment then

    def load() -> None:
        import flows.monitoring  # noqa: F401

    def run() -> Decision:
        from flows.monitoring import monitor_classifier

        with ConsoleReporter(console) as reporter, reporting_to(reporter):
            return cast(Decision, monitor_classifier(**flat(parameters)))

    decision = at_the_server(own, run, load)
    _print(decision, console, time.monotonic() - began)


def _print(decision: Decision, console: Console, seconds: float) -> None:
    from flywheel.units import percent
    from tasks.monitoring_page import page_of

    look = cast(Look, look_of(decision.evidence))  # this very code wrote it
    found, table = look.measured, table_of_two()
    what = look.outcome if found is None else f"{found.diagnosis.cause}: {look.action}"
    table.add_row("look", f"{look.state.looks} since the release, of {decision.inputs['model_id']}")
    table.add_row("verdict", Text.assemble((decision.verdict.value, STYLE[decision.verdict]), f"  {what}"))
    table.add_row("reason", Text(decision.reason))
    table.add_row("predictions", f"{look.answers:,} since the look before{'' if look.counted else ', about'}")
    if found is not None:
        estimate = found.estimate
        interval = f"[{percent(estimate.low)}, {percent(estimate.high)}]"
        table.add_row(
            "accuracy", f"{percent(estimate.value)} {interval} estimated, {percent(estimate.reference)} before"
        )
    if look.labelled is not None:
        table.add_row("", f"{look.labelled} by {look.labels:,} labels")
    for told in (*look.failed, *look.warnings):
        table.add_row("warning", Text(told, style="yellow"))
    table.add_row("page", Text(shown_path(page_of(decision, Settings().paths))))
    table.add_row("decision", decision.id)
    print_summary(console, table, seconds)


if __name__ == "__main__":
    end(main)

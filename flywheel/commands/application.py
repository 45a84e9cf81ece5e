"""The commands. Each opens the ledger, reads, and shows: nothing is made where there is nothing to read."""

import sys
from typing import Annotated, Any, NoReturn

import typer
from pydantic import TypeAdapter
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from flywheel.commands.tables import champion_panel, champions_table, decision_panel, decisions_table
from flywheel.identity import canonical_json
from flywheel.ledger import Kind, Ledger, LedgerError, open_ledger
from flywheel.settings import Settings

app = typer.Typer(
    help="Read flywheel's ledger: who is champion, since when, and why.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)

PIPE_COLUMNS = 200  # no id is broken in a file or a pipe, whatever COLUMNS says

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Task = Annotated[str | None, typer.Option("--task", "--TASK", help="task-…; by default the last promoted one.")]


@app.command()
def champion(task: Task = None, as_json: AsJson = False) -> None:
    """Show who is champion, since when, and why."""
    ledger = _ledger()
    current = ledger.champion(task)
    if current is None:
        _stop(f"No champion{f' of {task}' if task else ''} yet. 'make run' trains and releases a first model.")
    decision = ledger.decision(current.decision_id)
    gate = ledger.gate_of_champion(current)
    if as_json:
        _print_json({"champion": current, "decision": decision, "gate": gate})
    else:
        _console().print(champion_panel(current, decision, gate))


@app.command()
def history(task: Task = None, as_json: AsJson = False) -> None:
    """List all champions of a task, the newest first."""
    ledger = _ledger()
    current = ledger.champion(task)
    champions = ledger.history(current.task_id) if current else []
    if as_json:
        _print_json(champions)
    elif not champions:
        _console().print(_no_champions(task, ledger), markup=False, highlight=False)
    else:
        reasons = {each.decision_id: ledger.decision(each.decision_id).reason for each in champions}
        _console().print(champions_table(champions, reasons))


@app.command()
def decisions(
    kind: Annotated[Kind | None, typer.Option(help="Only decisions of this kind.")] = None,
    task: Annotated[str | None, typer.Option("--task", "--TASK", help="Only decisions on this task.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List what was decided, the newest first."""
    found = _ledger().decisions(kind=kind, task_id=task, limit=limit)
    if as_json:
        _print_json(found)
    elif not found:
        _console().print("No such decisions yet.")
    else:
        _console().print(decisions_table(found))


@app.command()
def decision(
    identity: Annotated[str, typer.Argument(metavar="ID", help="dec-…, or how it begins.")], as_json: AsJson = False
) -> None:
    """Show one decision with its inputs, rules and reason."""
    try:
        found = _ledger().decision(identity)
    except LedgerError as error:
        _stop(str(error))
    if as_json:
        _print_json(found)
    else:
        _console().print(decision_panel(found))


def _no_champions(task: str | None, ledger: Ledger) -> str:
    others = sorted({each.task_id for each in ledger.history()})
    if task and others:
        return f"No champions of {task}. Tasks that have one: {', '.join(others)}."
    return "No champions yet. 'make run' trains and releases a first model."


def _console() -> Console:
    """As wide as the terminal; where there is none Rich would take 80 columns and split ids."""
    return Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def _ledger() -> Ledger:
    try:
        return open_ledger(Settings(), create=False)
    except (LedgerError, SQLAlchemyError) as error:
        _stop(str(error))


def _stop(message: str) -> NoReturn:
    Console(stderr=True, soft_wrap=True).print(message, markup=False, highlight=False)
    raise typer.Exit(1)


def _print_json(content: Any) -> None:
    plain = TypeAdapter(Any).dump_python(content, mode="json")
    typer.echo(canonical_json(plain))

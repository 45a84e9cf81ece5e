"""The application that the commands belong to, and how each of them opens the ledger, prints, and ends."""

import sys
from typing import Annotated, Any, NoReturn

import typer
from pydantic import TypeAdapter
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from flywheel.identity import canonical_json
from flywheel.ledger import Ledger, LedgerError, open_ledger
from flywheel.settings import Settings

app = typer.Typer(
    help="flywheel's ledger: who is champion, since when, and why; and what a person decides about it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)

PIPE_COLUMNS = 200  # no id is broken in a file or a pipe, whatever COLUMNS says

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Task = Annotated[str | None, typer.Option("--task", "--TASK", help="task-…; by default the last promoted one.")]


def console() -> Console:
    """As wide as the terminal; where there is none Rich would take 80 columns and split ids."""
    return Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def existing_ledger() -> Ledger:
    try:
        return open_ledger(Settings(), create=False)
    except (LedgerError, SQLAlchemyError) as error:
        stop(str(error))


def say(message: str, style: str = "") -> None:
    """A sentence as it is: no markup, no break inside an id."""
    console().print(message, style=style, markup=False, highlight=False, soft_wrap=True)


def stop(message: str) -> NoReturn:
    Console(stderr=True, soft_wrap=True).print(message, markup=False, highlight=False)
    raise typer.Exit(1)


def print_json(content: Any) -> None:
    plain = TypeAdapter(Any).dump_python(content, mode="json")
    typer.echo(canonical_json(plain))

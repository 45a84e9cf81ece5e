"""How commands speak: tables to standard output, JSON where asked, and one way to end with a reason."""

import sys
from typing import Any, NoReturn

import typer
from pydantic import TypeAdapter
from rich.console import Console

from flywheel.identity import canonical_json

PIPE_COLUMNS = 200  # no id is broken in a file or a pipe, whatever COLUMNS says


def console() -> Console:
    """As wide as the terminal; where there is none Rich would take 80 columns and split ids."""
    return Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def print_json(content: Any) -> None:
    plain = TypeAdapter(Any).dump_python(content, mode="json")
    typer.echo(canonical_json(plain))


def stop(message: str) -> NoReturn:
    Console(stderr=True, soft_wrap=True).print(message, markup=False, highlight=False)
    raise typer.Exit(1)

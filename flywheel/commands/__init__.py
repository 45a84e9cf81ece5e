"""The `flywheel` command line: what only reads or writes the ledger, and answers within two seconds."""

from flywheel.commands import (  # each adds its commands, in the order of 'flywheel --help'
    deciding,
    gates,
    proving,
    reading,
    trials,
)
from flywheel.commands.output import app

__all__ = ["app", "deciding", "gates", "proving", "reading", "trials"]

"""The `flywheel` command line: what only reads or writes the ledger, and answers within two seconds."""

from flywheel.commands import deciding, proving, reading  # each adds its commands, in the order of 'flywheel --help'
from flywheel.commands.output import app

__all__ = ["app", "deciding", "proving", "reading"]

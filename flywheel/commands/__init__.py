"""The `flywheel` command line: what only reads or writes the ledger, and answers within two seconds."""

from flywheel.commands.application import app

__all__ = ["app"]

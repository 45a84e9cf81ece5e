"""Which step of `migrations/` a database stands at, and how it comes to the last one.

A step only adds, with a default for whoever does not know of it: services of earlier Bentos go on with their own code.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from flywheel.ledger.entries import LedgerError

LATEST = "0004"  # said here too, as Alembic takes 0.3 s to import and is hardly ever needed
MIGRATIONS = Path(__file__).with_name("migrations")


def schema_version(connection: Connection) -> str | None:
    """The step; None for a database without one, be it empty or older than migrations."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return None if version is None else str(version)


def upgrade(connection: Connection) -> str | None:
    """Bring the database to the latest step, inside the caller's transaction; returns the step that it had.

    Raises LedgerError where a newer flywheel has made it.
    """
    before = schema_version(connection)
    if before == LATEST:
        return before
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise LedgerError(
            f"The ledger's schema is at {before}, at most {LATEST} is known here ({error}). Update flywheel."
        ) from error
    return before

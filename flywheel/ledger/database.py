"""The one place that opens the operational database."""

import sqlite3
import time
from contextlib import AbstractContextManager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from flywheel.identity import canonical_json
from flywheel.ledger.entries import LedgerError
from flywheel.ledger.tables import metadata

# A writer's transaction takes milliseconds; one that waits this long has met a stuck process.
BUSY_TIMEOUT_MS = 30_000


def database_file(url: str) -> Path:
    """The file behind a SQLite URL. Raises LedgerError for any other database."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        shown = parsed.render_as_string(hide_password=True)
        raise LedgerError(f"{shown}: a ledger is a SQLite file, sqlite:///<path>. Correct FLYWHEEL_DATABASE_URL.")
    return Path(str(parsed.database))


def open_engine(url: str, *, create: bool) -> Engine:
    """An engine whose database exists with all its tables.

    Raises LedgerError where there is none and `create` is false, or where the file is no ledger.
    """
    file = database_file(url)
    if not create and not file.is_file():
        raise LedgerError(f"{file}: no ledger yet. 'make run' trains a first model and makes it.")
    file.parent.mkdir(parents=True, exist_ok=True)
    # no pool: a connection costs 0.1 ms, and none is carried into a forked process or left open on a moved file
    engine = create_engine(url, poolclass=NullPool, json_serializer=canonical_json)
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    try:
        with writing(engine) as connection:
            metadata.create_all(connection)
    except DBAPIError as error:
        raise LedgerError(
            f"{file}: can't be opened as a ledger ({error.orig}). Move the file away, or correct FLYWHEEL_DATABASE_URL."
        ) from error
    return engine


def writing(engine: Engine) -> AbstractContextManager[Connection]:
    """A transaction that holds SQLite's writer lock from its start, so that what it reads can't change before it
    writes. Use it as a context manager; it commits at the end and rolls back on an error."""
    return engine.execution_options(begin="IMMEDIATE").begin()


def _configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)  # noqa: S101 - narrows the driver's type
    connection.isolation_level = None  # the driver would begin transactions of its own, and too late
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA foreign_keys = ON")
    _use_write_ahead_log(connection)


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Readers then never wait for a writer. The switch itself ignores the busy timeout, hence the loop."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin(connection: Connection) -> None:
    mode = connection.get_execution_options().get("begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")

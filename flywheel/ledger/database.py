"""The one place that opens the operational database: SQLite in a file, or Postgres."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, QueuePool

from flywheel.identity import canonical_json
from flywheel.ledger.entries import LedgerError
from flywheel.ledger.schema import LATEST, schema_version, upgrade

# A writer's transaction takes milliseconds; one that waits this long has met a stuck process.
BUSY_TIMEOUT_MS = 30_000
HASTY_TIMEOUT_MS = 2_000  # the prediction log has somewhere else to write to meanwhile
CONNECT_TIMEOUT_S = 10
HASTY_CONNECT_TIMEOUT_S = 3
WRITERS_LOCK = 0x666C7977  # any numbers that no other program in the same Postgres database takes
PREDICTIONS_LOCK = 0x666C7970  # the log's writers don't wait for a decision, nor decisions for them
EXAMPLES = "sqlite:////srv/ledger.db or postgresql://user@host/database"


def database_url(text: str) -> URL:
    """The URL with its driver. Raises LedgerError for a database that is neither a SQLite file nor a Postgres."""
    try:
        url = make_url("postgresql" + text.removeprefix("postgres") if text.startswith("postgres:") else text)
    except ArgumentError:
        raise LedgerError(f"FLYWHEEL_DATABASE_URL can't be read as a URL. Write it as {EXAMPLES}.") from None
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        raise LedgerError(
            f"{shown(url)}: a ledger is a SQLite file or a Postgres database. Set FLYWHEEL_DATABASE_URL to {EXAMPLES}."
        )
    return url


def sqlite_file(url: URL) -> Path | None:
    """The file behind a SQLite URL; None for a Postgres."""
    return Path(str(url.database)) if url.get_backend_name() == "sqlite" else None


def shown(url: URL) -> str:
    """Without its password, for messages."""
    return url.render_as_string(hide_password=True)


def open_engine(url: URL, *, create: bool, hasty: bool = False, serving: bool = False) -> tuple[Engine, bool]:
    """An engine whose database stands at the latest schema, and whether it was brought there now.

    `hasty` is the prediction log's way: connections are kept, a lock is waited for two seconds only, and SQLite's last
    commits before a power cut may be lost (after the death of a process they are not). `serving` is a service's way: it
    carries the code of its Bento, so it goes on with a later schema, which has all that this one has.

    A SQLite file is made and migrated here. A Postgres is only looked at: many programs may use it, and a person says
    when it is migrated. Raises LedgerError where there is no ledger and `create` is false, or where it can't be used.
    """
    file = sqlite_file(url)
    if file is not None and not file.is_file():
        if not create:
            raise LedgerError(f"{file}: no ledger yet. 'make run' trains a first model and makes it.")
        file.parent.mkdir(parents=True, exist_ok=True)
    engine = _engine(url, hasty=hasty)
    with _told(url), engine.begin() as connection:
        version = schema_version(connection)
    if serving and version is not None and version > LATEST:
        return engine, False
    if version != LATEST:
        if file is None:
            raise LedgerError(
                f"{shown(url)}: schema {LATEST} expected, {version or 'none'} found. Run 'make migrate' once."
            )
        migrate(url)
    return engine, version != LATEST


def migrate(url: URL) -> str | None:
    """Bring the database to the latest schema, in one transaction; returns the schema that it had.

    Two processes that do it at once do it once. Raises LedgerError where it can't be opened, or a newer flywheel has
    made it.
    """
    file = sqlite_file(url)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    with _told(url), writing(_engine(url)) as connection:
        return upgrade(connection)


@contextmanager
def writing(engine: Engine, lock: int = WRITERS_LOCK) -> Iterator[Connection]:
    """A transaction that holds one writers' lock from its start, so that what it reads can't change before it writes.
    It commits at the end and rolls back on an error. SQLite has a single lock for all."""
    with engine.execution_options(begin="IMMEDIATE").begin() as connection:
        if engine.dialect.name == "postgresql":
            lock_timeout = int(connection.get_execution_options()["lock_timeout"])
            connection.execute(text(f"SET LOCAL lock_timeout = {lock_timeout}"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock})
        yield connection


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A transaction whose readings are all of one moment, whatever is written meanwhile."""
    options: dict[str, Any] = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}
    with engine.execution_options(**options).begin() as connection:
        yield connection


def _engine(url: URL, *, hasty: bool = False) -> Engine:
    # no pool: a connection costs a millisecond, and none is carried into a forked process or left open on a moved file
    pool: dict[str, Any] = {"poolclass": QueuePool if hasty else NullPool, "json_serializer": canonical_json}
    lock_timeout = HASTY_TIMEOUT_MS if hasty else BUSY_TIMEOUT_MS
    if url.get_backend_name() == "postgresql":
        waits: dict[str, Any] = {"connect_timeout": HASTY_CONNECT_TIMEOUT_S if hasty else CONNECT_TIMEOUT_S}
        if hasty:  # a server that is cut off would otherwise hold the log for a quarter of an hour
            waits |= {"tcp_user_timeout": HASTY_TIMEOUT_MS, "options": _options(url, HASTY_TIMEOUT_MS)}
        engine = create_engine(url, connect_args=waits, **pool)
    else:
        engine = create_engine(url, **pool)
        event.listen(engine, "connect", partial(_configure, hasty=hasty))
        event.listen(engine, "begin", _begin)
    return engine.execution_options(lock_timeout=lock_timeout)


def _options(url: URL, statement_timeout: int) -> str:
    """Those of the URL, and a limit on a statement's time."""
    given = url.query.get("options", "")
    return f"{given if isinstance(given, str) else ' '.join(given)} -cstatement_timeout={statement_timeout}".strip()


@contextmanager
def _told(url: URL) -> Iterator[None]:
    """What the driver says, as a sentence that names the ledger and hides its password."""
    try:
        yield
    except DBAPIError as error:
        said = " ".join(str(error.orig).split())
        told = sqlite_file(url) or shown(url)
        next_step = "Move the file away, or correct" if sqlite_file(url) else "Start the server, or correct"
        raise LedgerError(
            f"{told}: can't be opened as a ledger ({said}). {next_step} FLYWHEEL_DATABASE_URL."
        ) from error


def _configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry, *, hasty: bool) -> None:
    assert isinstance(connection, sqlite3.Connection)  # noqa: S101 - narrows the driver's type
    connection.isolation_level = None  # the driver would begin transactions of its own, and too late
    connection.execute(f"PRAGMA busy_timeout = {HASTY_TIMEOUT_MS if hasty else BUSY_TIMEOUT_MS}")
    if hasty:
        connection.execute("PRAGMA synchronous = NORMAL")
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

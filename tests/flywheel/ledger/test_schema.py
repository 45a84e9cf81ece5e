"""A ledger from before migrations, an empty database, a newer one: each comes to the latest schema, or is refused."""

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DatabaseError

from flywheel.ledger import LedgerError, migrate_ledger, open_ledger
from flywheel.ledger.database import database_url, migrate
from flywheel.ledger.predictions import open_predictions
from flywheel.ledger.schema import LATEST, MIGRATIONS
from flywheel.ledger.tables import metadata
from flywheel.records import Verdict
from flywheel.settings import PROJECT, Settings
from tests.flywheel.conftest import Database
from tests.flywheel.ledger.judging import gate, promote

OLD = Path(__file__).with_name("before_migrations.sql").read_text(encoding="utf-8")


@pytest.fixture
def old(tmp_path) -> Path:
    """A ledger as the version before migrations left it: four gates, two promotions."""
    file = tmp_path / "ledger.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(OLD)
    return file


def schema_of(file: Path) -> set[tuple[str, str]]:
    """Every table, index and trigger of a SQLite file with its definition, spaces aside."""
    with closing(sqlite3.connect(file)) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
    return {(name, re.sub(r"\s+", " ", sql)) for name, sql in found}


def test_the_latest_step_is_the_one_that_the_code_expects():
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == LATEST


def test_the_steps_make_the_tables_that_queries_expect(database):
    engine = database.open()._engine
    with engine.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_an_old_ledger_migrates_by_itself_and_loses_nothing(old):
    ledger = open_ledger(f"sqlite:///{old}", create=False)
    assert [champion.model_id for champion in ledger.history()] == ["model-c", "model-a"]
    assert len(ledger.decisions()) == 6
    report = ledger.verify()
    assert (report.verdict, report.rows, report.notes) == (Verdict.PASS, 11, ())
    assert ledger.anchor("task-1") == "model-c"
    promote(ledger, "model-d", champion="model-c")
    assert ledger.verify().rows == 15


def test_an_old_ledger_becomes_what_a_new_one_is(old, tmp_path):
    open_ledger(f"sqlite:///{old}")
    open_ledger(f"sqlite:///{tmp_path / 'new.db'}")
    assert schema_of(old) == schema_of(tmp_path / "new.db")


@pytest.mark.parametrize("table", ["decisions", "evaluation_set_uses", "champions", "chain"])
def test_the_rows_of_an_old_ledger_are_append_only_and_chained(old, table):
    ledger = open_ledger(f"sqlite:///{old}")
    with closing(sqlite3.connect(old)) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(f"DELETE FROM {table}")
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute(f"DROP TRIGGER {table}_no_delete")
        connection.execute(f"DELETE FROM {table} WHERE position = 1")
    assert ledger.verify().verdict is Verdict.FAIL


OPENS = "import sys; from flywheel.ledger import open_ledger; print(open_ledger(sys.argv[1]).verify().rows)"


def test_two_processes_migrate_an_old_ledger_once(old):
    command = [sys.executable, "-c", OPENS, f"sqlite:///{old}"]
    openers = [subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [opener.communicate(timeout=60)[0].strip() for opener in openers] == ["11", "11"]


def test_a_migration_that_breaks_leaves_the_ledger_as_it_was(old, monkeypatch):
    before = schema_of(old)

    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr("flywheel.ledger.chain._write", fails)
    with pytest.raises(OSError, match="disk full"):
        open_ledger(f"sqlite:///{old}")
    monkeypatch.undo()
    assert schema_of(old) == before
    assert open_ledger(f"sqlite:///{old}").verify().rows == 11


def test_a_ledger_of_a_newer_flywheel_is_left_alone(tmp_path):
    file = tmp_path / "ledger.db"
    open_ledger(f"sqlite:///{file}")
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = schema_of(file)
    with pytest.raises(LedgerError, match=f"schema is at 9999, at most {LATEST} is known here.*Update flywheel"):
        open_ledger(f"sqlite:///{file}")
    assert schema_of(file) == before


@pytest.mark.postgres
def test_a_postgres_waits_for_the_command_that_migrates_it(empty_postgres, tmp_path):
    with pytest.raises(LedgerError, match=r"none found\. Run 'make migrate'"):
        empty_postgres.open()
    assert empty_postgres.execute("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()") == [(0,)]
    settings = Settings(home=tmp_path, database_url=empty_postgres.url)
    assert migrate_ledger(settings)[1] is None
    assert migrate_ledger(settings)[1] == LATEST
    ledger = open_ledger(settings, create=False)
    gate(ledger)
    assert (ledger.verify().verdict, ledger.verify().rows) == (Verdict.PASS, 2)
    assert (tmp_path / ".flywheel" / "ledger-head.json").is_file()


@pytest.mark.postgres
def test_two_programs_migrate_a_postgres_once(empty_postgres):
    code = "import sys; from flywheel.ledger.database import *; print(migrate(database_url(sys.argv[1])))"
    command = [sys.executable, "-c", code, empty_postgres.url]
    migrators = [subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(each.communicate(timeout=60)[0].strip() for each in migrators) == [LATEST, "None"]


@pytest.mark.postgres
def test_a_writer_waits_no_longer_than_a_stuck_one_is_worth(empty_postgres, monkeypatch):
    from flywheel.ledger.database import writing

    monkeypatch.setattr("flywheel.ledger.database.BUSY_TIMEOUT_MS", 200)
    migrate(database_url(empty_postgres.url))
    ledger = empty_postgres.open()
    with writing(ledger._engine), pytest.raises(DatabaseError, match="lock timeout"):
        gate(ledger)
    gate(ledger)


def test_a_service_goes_on_with_a_later_schema_and_nobody_else_does(database: Database) -> None:
    open_predictions(database.url).close()
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    log = open_predictions(database.url, hasty=True)
    assert log.last_position() == 0
    assert open_ledger(database.url, head=database.head, serving=True).champion() is None
    with pytest.raises(LedgerError):
        open_predictions(database.url)

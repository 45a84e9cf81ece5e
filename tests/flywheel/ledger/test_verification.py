"""Whatever is changed, removed or slipped in is told, on SQLite and on Postgres."""

import os
import signal
import subprocess
import sys

import pytest
from sqlalchemy import create_engine

from flywheel.ledger import Kind, LedgerError
from flywheel.ledger.verification import MOST_FINDINGS, verify_chain
from flywheel.records import Verdict
from flywheel.settings import PROJECT
from tests.flywheel.ledger.judging import NOON, force, gate, promote, rollback

ROWS = {"decisions": 5, "evaluation_set_uses": 2, "champions": 3}  # what the fixture writes


@pytest.fixture
def ledger(database):
    """Two gates, a promotion, a force and a rollback."""
    ledger = database.open()
    promote(ledger)
    force(ledger, "model-b", champion="model-a")
    rollback(ledger)
    return ledger


def test_what_was_only_appended_is_whole(ledger, database):
    report = ledger.verify()
    assert (report.verdict, report.rows, report.findings, report.notes) == (Verdict.PASS, 10, (), ())
    for table, rows in ROWS.items():
        assert database.execute(f"SELECT count(*) FROM {table}") == [(rows,)]
    assert database.open().verify() == report


def test_an_empty_ledger_is_whole(database):
    report = database.open().verify()
    assert (report.rows, report.findings) == (0, ())


@pytest.mark.parametrize("row", ["first", "middle", "last"])
@pytest.mark.parametrize("table", ROWS)
def test_a_removed_row_is_told(ledger, database, table, row):
    position = {"first": 1, "middle": (ROWS[table] + 1) // 2, "last": ROWS[table]}[row]
    database.tamper(f"DELETE FROM {table} WHERE position = {position}")
    report = ledger.verify()
    assert report.verdict is Verdict.FAIL
    assert report.findings == (f"{table}, row {position}: removed.",)


@pytest.mark.parametrize("row", ["first", "middle", "last"])
def test_a_removed_row_is_told_when_its_link_goes_too(ledger, database, row):
    link = {"first": 1, "middle": 5, "last": 10}[row]
    ((table, position),) = database.execute(f"SELECT row_table, row_position FROM chain WHERE position = {link}")
    database.tamper(f"DELETE FROM {table} WHERE position = {position}")
    database.tamper(f"DELETE FROM chain WHERE position = {link}")
    report = ledger.verify()
    assert report.verdict is Verdict.FAIL
    told = "The last 1 rows were removed" if row == "last" else f"Links {link} to {link} were removed"
    assert told in report.findings[0]


EDITS = {
    "decisions": ["reason = 'better'", "verdict = 'pass'", "evidence = '{}'", "created_at = '2026-03-01 12:00:01'"],
    "evaluation_set_uses": ["champion_id = 'model-x'", "evaluation_set_id = 'evalset-2'", "at = '2020-01-01 00:00:00'"],
    "champions": ["model_id = 'model-x'", "bento_tag = 'classifier:x'", "task_id = 'task-2'"],
}


@pytest.mark.parametrize(("table", "edit"), [(table, edit) for table, edits in EDITS.items() for edit in edits])
def test_an_edited_row_is_told(ledger, database, table, edit):
    where = "id IN (SELECT id FROM decisions WHERE kind = 'gate' AND verdict = 'fail')"
    database.tamper(f"UPDATE {table} SET {edit} WHERE {where if table == 'decisions' else 'position = 2'}")
    report = ledger.verify()
    assert report.verdict is Verdict.FAIL
    ((finding),) = report.findings
    assert finding.startswith(f"{table}, row ")
    assert "changed" in finding


def test_a_space_in_stored_json_is_told_too(ledger, database):
    """The text is hashed, not what it is read as: a doubled key is read in two ways by two readers."""
    stored = "CAST(REPLACE(CAST(inputs AS TEXT), ':', ': ') AS JSON)"
    if database.is_sqlite:
        stored = "REPLACE(inputs, ':', ': ')"
    database.tamper(f"UPDATE decisions SET inputs = {stored} WHERE position = 3")
    assert ledger.verify().findings == ("decisions, row 3: changed, or its link 5 was.",)


def test_a_row_that_was_slipped_in_is_told(ledger, database):
    """Adding is what no trigger refuses."""
    columns = "task_id, model_id, decision_id, bento_tag, since"
    decision = "(SELECT id FROM decisions WHERE position = 1)"
    database.execute(
        f"INSERT INTO champions ({columns}) VALUES ('task-1', 'model-x', {decision}, 'b:x', '2026-03-02 00:00:00')"
    )
    assert ledger.champion().model_id == "model-x"
    assert ledger.verify().findings == (
        "champions, row 4: added by something else than flywheel, or its link was removed.",
    )


def test_a_chain_that_was_written_anew_does_not_reach_its_head(ledger, database):
    """Somebody who knows how the chain is made, and has the database only."""
    from flywheel.ledger.chain import add_link
    from flywheel.ledger.database import writing
    from flywheel.ledger.tables import metadata

    links = database.execute("SELECT row_table, row_position FROM chain WHERE position > 0 ORDER BY position")
    database.tamper("UPDATE decisions SET reason = 'All well.' WHERE position = 2")
    database.tamper("DELETE FROM chain WHERE position > 0")
    with writing(ledger._engine) as connection:
        for table, position in links:
            add_link(connection, metadata.tables[table], position)
    report = ledger.verify()
    assert report.verdict is Verdict.FAIL
    assert "the chain was written anew" in report.findings[0]


def test_nothing_is_added_to_a_ledger_that_lost_its_end(ledger, database):
    """The new rows would cover the loss."""
    before = database.head.read_bytes()
    database.tamper("DELETE FROM champions WHERE position = 3")
    database.tamper("DELETE FROM decisions WHERE position = 5")
    database.tamper("DELETE FROM chain WHERE position > 8")
    with pytest.raises(LedgerError, match="lost rows"):
        gate(ledger, "model-z")
    assert database.head.read_bytes() == before
    assert "The last 2 rows were removed" in ledger.verify().findings[0]


def test_a_ledger_cut_to_nothing_says_so_in_few_words(ledger, database):
    for number in range(MOST_FINDINGS):
        gate(ledger, f"model-{number}")
    for table in ROWS:
        database.tamper(f"DELETE FROM {table}")
    findings = ledger.verify().findings
    assert len(findings) == MOST_FINDINGS + 1
    assert findings[-1] == f"… and {10 + 2 * MOST_FINDINGS - MOST_FINDINGS} more."
    database.tamper("DELETE FROM chain")
    assert "first link is gone" in ledger.verify().findings[0]
    with pytest.raises(LedgerError, match="first link"):
        gate(ledger, "model-z")


def test_a_ledger_without_its_tables_is_told_in_a_sentence(tmp_path):
    with create_engine("sqlite://").connect() as connection:
        report = verify_chain(connection, {}, tmp_path / "head.json")
    assert report.verdict is Verdict.FAIL
    assert "tables chain, champions, decisions" in report.findings[0]


KILLED = """
import os, signal, sys
from pathlib import Path
from flywheel.ledger import open_ledger
from flywheel.ledger.heads import HeadFile
from tests.flywheel.ledger.judging import gate
ledger = open_ledger(sys.argv[1], head=Path(sys.argv[2]))
HeadFile.advance = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
gate(ledger, "model-killed")
"""


def test_killed_between_commit_and_head_is_no_tampering_and_is_mended(ledger, database):
    killed = subprocess.run([sys.executable, "-c", KILLED, database.url, str(database.head)], cwd=PROJECT, check=False)
    assert killed.returncode == -signal.SIGKILL
    report = ledger.verify()
    assert (report.verdict, report.rows, report.findings) == (Verdict.PASS, 12, ())
    assert report.notes == ("The head's file is behind by 2 rows, which fit; the next decision from here mends it.",)
    gate(ledger, "model-next")
    assert ledger.verify().notes == ()


def test_without_its_head_a_ledger_is_not_proven_whole(ledger, database):
    database.head.unlink()
    report = ledger.verify()
    assert (report.verdict, report.findings) == (Verdict.NOT_ENOUGH_EVIDENCE, ())
    assert "No head of this ledger" in report.notes[0]
    gate(ledger, "model-next")
    assert ledger.verify().verdict is Verdict.PASS


def test_two_ledgers_share_a_head_file_and_are_not_confused(ledger, database, tmp_path):
    from flywheel.ledger import open_ledger

    other = open_ledger(f"sqlite:///{tmp_path / 'other.db'}", head=database.head)
    gate(other)
    assert other.verify().verdict is ledger.verify().verdict is Verdict.PASS
    assert other.verify().ledger_id != ledger.verify().ledger_id
    third = open_ledger(f"sqlite:///{tmp_path / 'third.db'}", head=tmp_path / "third.json")
    third._heads.path = database.head
    assert "2 other ledger(s)" in third.verify().notes[0]


def test_a_head_that_cannot_be_read_stops_writers_and_says_what_to_do(ledger, database):
    database.head.write_text("{", encoding="utf-8")
    for attempt in (ledger.verify, lambda: gate(ledger, "model-z")):
        with pytest.raises(LedgerError, match=f"{database.head.name}: the ledger's head expected, unreadable"):
            attempt()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_head_that_cannot_be_written_loses_no_row(ledger, database):
    database.head.parent.chmod(0o500)
    try:
        gate(ledger, "model-z")
    finally:
        database.head.parent.chmod(0o700)
    assert ledger.verify().rows == 12


def test_the_hash_of_a_row_is_the_same_on_every_database_and_machine(database, monkeypatch):
    """What a ledger was held to years ago must still hold: this value is never to be changed."""
    monkeypatch.setattr("flywheel.ledger.ledger.deciding_code", lambda: "0" * 64)
    ledger = database.open()
    database.tamper("UPDATE chain SET hash = 'a fresh ledger'")
    told = {"inputs": {"ä": [None, 1.5]}, "policy": {}, "evidence": {"n": 0.1}, "verdict": Verdict.FAIL, "reason": "Ü"}
    ledger.record(Kind.DRIFT, "task-1", **told, clock=lambda: NOON)
    assert ledger.verify().head == "112415ed7994930a59e84186542bb88ee934ade75ee0ec8aea349bcddf2ff680"

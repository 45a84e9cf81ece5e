"""On SQLite and on Postgres: what is appended stays, and the champion moves only with its decision."""

import subprocess
import sys
from datetime import timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import DatabaseError, IntegrityError, StatementError

from flywheel.ledger import Kind, Ledger, LedgerError, open_ledger
from flywheel.ledger.database import database_url, writing
from flywheel.ledger.ledger import DECIDING, gate_of
from flywheel.ledger.tables import champions
from flywheel.records import Verdict
from flywheel.settings import PROJECT, Settings
from tests.flywheel.ledger.judging import NOON, POLICY, gate, promote


@pytest.fixture
def ledger(database) -> Ledger:
    return database.open()


def test_a_gate_comes_back_as_it_was_recorded(ledger):
    judged = gate(ledger)
    decision = ledger.decision(judged.id)
    assert gate_of(decision) == judged
    assert decision.kind is Kind.GATE
    assert decision.policy == POLICY
    assert decision.evidence["images"] == 100
    assert decision.created_at == NOON
    assert len(decision.code_version) == 64


def test_the_code_version_names_all_code_that_a_verdict_follows_from():
    """What `judge` imports of this project, and the ledger."""
    script = "import sys, flywheel.evaluation.gates; print(*(m for m in sys.modules if m.startswith('flywheel.')))"
    imported = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    rooms = {f"flywheel.{room.removesuffix('.py')}" for room in DECIDING}
    names = {".".join(name.split(".")[:2]) for name in imported.stdout.split()}
    assert "flywheel.policies" in names
    assert names <= rooms
    assert all((PROJECT / "flywheel" / room).exists() for room in DECIDING)


def test_the_same_judgement_is_one_decision_and_one_use(ledger):
    first = gate(ledger)
    again = gate(ledger, clock=lambda: NOON + timedelta(days=1))
    assert again == first
    assert [decision.created_at for decision in ledger.decisions()] == [NOON]
    assert len(ledger.evaluation_set_uses("evalset-1")) == 1


def test_what_was_decided_once_is_not_decided_otherwise_later(ledger):
    gate(ledger, verdict=Verdict.FAIL)
    assert gate(ledger, verdict=Verdict.PASS).verdict is Verdict.FAIL


def test_another_policy_is_another_decision_on_the_same_use(ledger):
    first = gate(ledger)
    gate(ledger, policy={"largest_ece": 0.1})
    (use,) = ledger.evaluation_set_uses("evalset-1")
    assert len(ledger.decisions()) == 2
    assert (use.model_id, use.champion_id, use.decision_id) == ("model-a", "", first.id)


def test_another_challenger_or_champion_is_another_use(ledger):
    gate(ledger)
    gate(ledger, model="model-b")
    gate(ledger, model="model-b", champion="model-a")
    uses = [(use.model_id, use.champion_id) for use in ledger.evaluation_set_uses("evalset-1")]
    assert uses == [("model-a", ""), ("model-b", ""), ("model-b", "model-a")]


def test_a_verdict_whose_inputs_make_another_id_is_refused(ledger):
    judged = gate(ledger)
    with pytest.raises(LedgerError, match="Judge again"):
        ledger.record_gate(judged, inputs={"model_id": "model-x"}, policy=POLICY, evidence={})
    assert len(ledger.decisions()) == 1


def test_a_promotion_moves_the_champion_with_its_decision(ledger):
    release = promote(ledger)
    champion = ledger.champion("task-1")
    assert release.promoted
    assert (release.champion_id, release.previous_id) == ("model-a", None)
    assert (champion.model_id, champion.bento_tag, champion.since) == ("model-a", "classifier:model-a", NOON)
    decision = ledger.decision(champion.decision_id)
    assert (decision.kind, decision.verdict, decision.reason) == (Kind.PROMOTION, Verdict.PASS, "passed its gate")
    assert ledger.gate_of_champion(champion).id == decision.inputs["gate_decision_id"]


def test_the_history_keeps_who_was_champion(ledger):
    promote(ledger)
    assert promote(ledger, "model-b", champion="model-a").previous_id == "model-a"
    assert [champion.model_id for champion in ledger.history("task-1")] == ["model-b", "model-a"]
    assert ledger.champion().model_id == "model-b"


def test_a_task_has_its_own_champion_and_the_last_promoted_task_is_the_default(ledger):
    promote(ledger)
    other = gate(ledger, "model-z", task="task-2")
    ledger.promote("task-2", "model-z", "classifier:z", other.id, "passed", lambda: NOON)
    assert ledger.champion("task-1").model_id == "model-a"
    assert ledger.champion().task_id == "task-2"
    assert ledger.champion("task-3") is None
    assert len(ledger.history()) == 2


def test_the_champion_promoted_again_is_left_as_it_is(ledger):
    first = promote(ledger)
    again = promote(ledger)
    assert not again.promoted
    assert (again.champion_id, again.decision_id) == ("model-a", first.decision_id)
    assert "champion already, since 2026-03-01 12:00 UTC" in again.reason
    assert len(ledger.history()) == 1


def test_the_champion_in_a_new_bento_is_a_promotion_of_its_own(ledger):
    promote(ledger)
    assert promote(ledger, bento="classifier:rebuilt").promoted
    assert ledger.champion().bento_tag == "classifier:rebuilt"


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.NOT_ENOUGH_EVIDENCE])
def test_a_gate_that_did_not_pass_promotes_nothing_and_says_so(ledger, verdict):
    promote(ledger)
    judged = gate(ledger, "model-b", champion="model-a", verdict=verdict)
    release = ledger.promote("task-1", "model-b", "classifier:b", judged.id, "please")
    assert not release.promoted
    assert release.champion_id == "model-a"
    assert f"“{verdict}”: ECE is too large." in release.reason
    assert ledger.decision(release.decision_id).verdict is Verdict.FAIL
    assert ledger.champion().model_id == "model-a"


def test_a_champion_that_moved_since_the_gate_is_not_overrun(ledger):
    stale = gate(ledger, "model-b", champion=None)
    promote(ledger)
    release = ledger.promote("task-1", "model-b", "classifier:b", stale.id, "passed its gate")
    assert not release.promoted
    assert "compared with no champion, the champion now is model-a" in release.reason
    assert ledger.champion().model_id == "model-a"


def test_an_expected_champion_that_is_not_there_stops_the_promotion(ledger):
    assert not promote(ledger, expected_champion="model-gone").promoted
    assert ledger.champion() is None
    assert promote(ledger, expected_champion=None).promoted


def test_a_model_that_comes_back_is_promoted_by_a_decision_of_its_own(ledger):
    first = promote(ledger, "model-a")
    promote(ledger, "model-b", champion="model-a")
    back = promote(ledger, "model-a", champion="model-b")
    assert back.promoted
    assert back.decision_id != first.decision_id


def test_a_promotion_needs_the_gate_decision_of_this_model_and_task(ledger):
    judged = gate(ledger)
    release = ledger.promote("task-1", "model-a", "classifier:a", judged.id, "passed")
    for task, model, decision in [
        ("task-1", "model-a", "dec-unknown"),
        ("task-1", "model-b", judged.id),
        ("task-2", "model-a", judged.id),
        ("task-1", "model-a", release.decision_id),
    ]:
        with pytest.raises(LedgerError):
            ledger.promote(task, model, "classifier:x", decision, "please")
    assert len(ledger.history()) == 1


CHANGES = {
    "update": "UPDATE {table} SET {column} = {column}",
    "delete": "DELETE FROM {table}",
    "replace": "INSERT OR REPLACE INTO {table} SELECT * FROM {table}",
    "truncate": "TRUNCATE {table} CASCADE",
    "upsert": "INSERT INTO {table} SELECT * FROM {table} ON CONFLICT (position) DO UPDATE SET {column} = ''",
}
ONLY_ON = {"replace": "sqlite", "truncate": "postgresql", "upsert": "postgresql"}  # where the statement exists


@pytest.mark.parametrize("table", ["decisions", "champions", "evaluation_set_uses", "chain"])
@pytest.mark.parametrize("change", CHANGES)
def test_the_database_itself_refuses_any_change(ledger, database, table, change):
    if not database.url.startswith(ONLY_ON.get(change, "")):
        pytest.skip("no such statement there")
    promote(ledger)
    column = {"decisions": "id", "chain": "hash"}.get(table, "decision_id")
    with pytest.raises(DatabaseError, match=f"{table} is append-only"):
        database.execute(CHANGES[change].format(table=table, column=column))
    assert ledger.champion().model_id == "model-a"
    assert ledger.verify().verdict is Verdict.PASS


def test_a_champion_without_a_decision_is_refused(ledger):
    row = {"task_id": "t", "model_id": "m", "decision_id": "dec-none", "bento_tag": "b", "since": NOON}
    with pytest.raises(IntegrityError), writing(ledger._engine) as connection:
        connection.execute(insert(champions).values(**row))
    assert ledger.history() == []


def test_a_promotion_that_breaks_half_way_leaves_neither_decision_nor_champion(ledger, monkeypatch):
    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr("flywheel.ledger.ledger.append_champion", fails)
    with pytest.raises(OSError, match="disk full"):
        promote(ledger)
    assert ledger.champion() is None
    assert [decision.kind for decision in ledger.decisions()] == [Kind.GATE]


def test_times_are_kept_in_utc_and_need_their_zone(ledger):
    east = NOON.astimezone(timezone(timedelta(hours=5)))
    assert ledger.decision(gate(ledger, clock=lambda: east).id).created_at == NOON
    with pytest.raises(StatementError, match="time with its zone"):
        gate(ledger, "model-b", clock=lambda: NOON.replace(tzinfo=None))


def test_a_decision_is_found_by_how_its_id_begins(ledger):
    first = gate(ledger)
    gate(ledger, "model-b")
    assert ledger.decision(first.id[:10]).id == first.id
    for unclear in ("dec-", "", "dec-zzz", "%"):
        with pytest.raises(LedgerError, match="flywheel decisions"):
            ledger.decision(unclear)


def test_decisions_are_listed_newest_first_by_kind_task_and_model(ledger):
    promote(ledger)
    gate(ledger, "model-b", task="task-2")
    assert [decision.kind for decision in ledger.decisions()] == [Kind.GATE, Kind.PROMOTION, Kind.GATE]
    assert len(ledger.decisions(kind=Kind.GATE)) == 2
    assert len(ledger.decisions(task_id="task-2")) == 1
    assert len(ledger.decisions(model_id="model-a")) == 2
    assert len(ledger.decisions(limit=1)) == 1


def test_the_ledger_survives_being_opened_again(database):
    promote(database.open())
    assert database.open(create=False).champion().model_id == "model-a"


def test_a_missing_ledger_is_not_made_by_a_reader(tmp_path):
    with pytest.raises(LedgerError, match="no ledger yet"):
        open_ledger(Settings(home=tmp_path, database_url=""), create=False)
    assert list(tmp_path.iterdir()) == []
    open_ledger(Settings(home=tmp_path, database_url=""))
    assert (tmp_path / ".flywheel" / "ledger.db").is_file()


@pytest.mark.parametrize("url", ["mysql://u:secret@host/db", "sqlite://", "sqlite:///:memory:", "u:secret@host/db"])
def test_another_database_is_refused_without_showing_its_password(url):
    with pytest.raises(LedgerError, match="FLYWHEEL_DATABASE_URL") as caught:
        open_ledger(url)
    assert "secret" not in str(caught.value)


def test_a_postgres_that_does_not_answer_is_said_without_its_password(tmp_path):
    with pytest.raises(LedgerError, match="Start the server") as caught:
        open_ledger("postgres://u:secret@127.0.0.1:1/db", head=tmp_path / "head.json")
    assert "127.0.0.1" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_decisions_that_move_nothing_are_recorded_once(ledger):
    for kind in (Kind.DRIFT, Kind.RETRAIN):
        told = {"inputs": {"window": 1}, "policy": {}, "evidence": {"shift": 0.2}, "verdict": Verdict.FAIL}
        first = ledger.record(kind, "task-1", **told, reason="It moved.", clock=lambda: NOON)
        assert ledger.record(kind, "task-1", **told, reason="Again.") == first
        assert ledger.decisions(kind=kind) == [first]
    with pytest.raises(LedgerError, match="by its own method"):
        ledger.record(Kind.ROLLBACK, "task-1", **told, reason="Quietly.")


WRITER = """
import sys
from pathlib import Path
from flywheel.ledger import open_ledger
from tests.flywheel.ledger.judging import gate, promote
url, head, name = sys.argv[1:]
ledger = open_ledger(url, head=Path(head))
for number in range(20):
    gate(ledger, f"model-{name}-{number}")
promote(ledger, f"model-{name}-0")
"""


def test_three_processes_that_write_at_once_lose_nothing_and_crown_one(database):
    """A SQLite file they also race to create: each opens it as its first act."""
    if database.is_sqlite:
        Path(database_url(database.url).database).unlink()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, database.url, str(database.head), name], cwd=PROJECT, stderr=subprocess.PIPE
        )
        for name in "abc"
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert writer.returncode == 0, errors.decode()
    ledger = database.open()
    assert len(ledger.decisions(kind=Kind.GATE)) == 60
    assert len(ledger.evaluation_set_uses("evalset-1")) == 60
    promotions = ledger.decisions(kind=Kind.PROMOTION)
    assert sorted(decision.verdict for decision in promotions) == [Verdict.FAIL, Verdict.FAIL, Verdict.PASS]
    (champion,) = ledger.history()
    assert ledger.decision(champion.decision_id).verdict is Verdict.PASS
    report = ledger.verify()
    assert (report.verdict, report.rows, report.notes) == (Verdict.PASS, 60 + 60 + 3 + 1, ())


def look(ledger: Ledger, previous: str, release: str = "dec-1", to: int = 10):
    return ledger.record_look(
        "task-1",
        previous,
        inputs={"release_id": release, "to": to},
        policy={},
        evidence={},
        verdict=Verdict.PASS,
        reason="Nothing moved.",
        clock=lambda: NOON,
    )


def test_of_two_looks_after_the_same_one_the_first_counts(ledger):
    first = look(ledger, "")
    assert look(ledger, "", to=12) is None
    second = look(ledger, first.id, to=20)
    assert look(ledger, first.id, to=21) is None
    assert second.inputs["previous"] == first.id
    assert [each.id for each in ledger.decisions(kind=Kind.DRIFT)] == [second.id, first.id]


def test_a_release_begins_its_own_looks(ledger):
    first = look(ledger, "")
    assert look(ledger, first.id, release="dec-2") is None
    assert look(ledger, "", release="dec-2") is not None

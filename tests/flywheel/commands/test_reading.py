"""The commands on a real ledger, as a user types them."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from flywheel.commands import app
from flywheel.identity import name_of
from flywheel.ledger import open_ledger
from flywheel.records import GateVerdict, RuleResult, Verdict
from flywheel.settings import PROJECT

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_HOME", str(tmp_path))
    monkeypatch.setenv("FLYWHEEL_DATABASE_URL", "")
    monkeypatch.setenv("COLUMNS", "120")
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


@pytest.fixture
def gate_id(tmp_path) -> str:
    """A ledger with one promoted model."""
    ledger = open_ledger(f"sqlite:///{tmp_path}/.flywheel/ledger.db")
    inputs = {"model_id": "model-1", "champion_id": None}
    rules = (
        RuleResult("evaluation set", 1797.0, 100.0, Verdict.PASS, "1,797 frozen images."),
        RuleResult("champion", 0.9, None, Verdict.PASS, "The task [has] no champion yet."),
    )
    judged = GateVerdict(
        id=name_of("dec", {"kind": "gate", "inputs": inputs, "policy": {"largest_ece": 0.15}}),
        model_id="model-1",
        task_id="task-1",
        evaluation_id="eval-1",
        evaluation_set_id="evalset-1",
        champion_id=None,
        verdict=Verdict.PASS,
        rules=rules,
        reason="All 2 rules passed.",
    )
    ledger.record_gate(judged, inputs=inputs, policy={"largest_ece": 0.15}, evidence={}, clock=lambda: NOON)
    ledger.promote("task-1", "model-1", "classifier:one", judged.id, "passed [its] gate", lambda: NOON)
    return judged.id


def test_champion_says_who_since_when_and_why(run, gate_id):
    result = run("champion")
    assert result.exit_code == 0
    for told in ("model-1", "task-1", "classifier:one", "2026-03-01 12:00 UTC", "passed [its] gate", gate_id):
        assert told in result.output
    assert "1,797" in result.output
    assert "has no champion" not in result.output  # square brackets are text, not markup
    assert "The task [has] no champion yet." in result.output


def test_champion_as_json_holds_the_three_records(run, gate_id):
    told = json.loads(run("champion", "--json").output)
    assert told["champion"]["model_id"] == "model-1"
    assert told["champion"]["since"] == "2026-03-01T12:00:00Z"
    assert told["gate"]["id"] == gate_id
    assert told["decision"]["inputs"]["gate_decision_id"] == gate_id


def test_history_lists_champions_of_the_task(run, gate_id):
    assert "model-1" in run("history").output
    assert [each["model_id"] for each in json.loads(run("history", "--json", "--task", "task-1").output)] == ["model-1"]
    assert json.loads(run("history", "--json", "--task", "task-2").output) == []
    told = run("history", "--task", "task-2").output
    assert told.strip() == "No champions of task-2. Tasks that have one: task-1."


def test_history_of_an_empty_ledger_names_the_next_step(run, tmp_path):
    open_ledger(f"sqlite:///{tmp_path}/.flywheel/ledger.db")
    for arguments in (("history",), ("history", "--task", "task-2")):
        assert "No champions yet. 'make run'" in run(*arguments).output


def test_through_a_pipe_no_id_is_broken(run, gate_id, tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path}/.flywheel/ledger.db")
    promotion = ledger.champion().decision_id
    environment = {**os.environ, "COLUMNS": "40"}
    for arguments, ids in [
        (["decisions"], {gate_id, promotion, "model-1"}),
        (["history"], {promotion, "model-1", "task-1"}),
        (["champion"], {gate_id, promotion, "model-1", "task-1", "classifier:one"}),
        (["decision", gate_id], {gate_id, "model-1"}),
    ]:
        command = [sys.executable, "-m", "flywheel.commands", *arguments]
        done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
        assert ids <= set(done.stdout.split())
        assert "…" not in done.stdout


def test_decisions_lists_and_filters(run, gate_id):
    assert gate_id in run("decisions").output
    assert "promoted" in run("decisions", "--kind", "promotion").output
    kinds = [each["kind"] for each in json.loads(run("decisions", "--json").output)]
    assert kinds == ["promotion", "gate"]
    assert [each["id"] for each in json.loads(run("decisions", "--kind", "gate", "--json").output)] == [gate_id]
    assert len(json.loads(run("decisions", "--limit", "1", "--json").output)) == 1
    assert run("decisions", "--kind", "guess").exit_code == 2
    assert "No such decisions" in run("decisions", "--task", "task-2").output


def test_a_decision_is_shown_with_its_rules_and_policy(run, gate_id):
    result = run("decision", gate_id[:9])
    assert result.exit_code == 0
    for told in (gate_id, "largest_ece 0.15", "1,797 frozen images.", "All 2 rules passed."):
        assert told in result.output
    assert json.loads(run("decision", gate_id, "--json").output)["id"] == gate_id


def test_what_is_not_there_is_said_with_the_next_step(run, gate_id):
    for arguments, told in [
        (("decision", "dec-none"), "no such decision"),
        (("champion", "--task", "task-9"), "No champion of task-9 yet. 'make run'"),
    ]:
        result = run(*arguments)
        assert result.exit_code == 1
        assert told in result.output


@pytest.mark.parametrize("command", ["champion", "history", "decisions"])
def test_without_a_ledger_nothing_is_made(run, tmp_path, command):
    result = run(command)
    assert result.exit_code == 1
    assert "no ledger yet" in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_an_error_and_no_traceback(run, tmp_path):
    (tmp_path / ".flywheel").mkdir()
    (tmp_path / ".flywheel" / "ledger.db").write_bytes(b"not a database, " * 100)
    result = run("champion")
    assert result.exit_code == 1
    assert "ledger.db" in result.output


def test_the_commands_import_nothing_heavy(tmp_path):
    heavy = ("torch", "timm", "prefect", "bentoml", "great_expectations", "matplotlib", "pandas", "sklearn", "faiss")
    code = f"import sys, flywheel.commands; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_module_runs_as_the_command_does(tmp_path):
    command = [sys.executable, "-m", "flywheel.commands", "--help"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    for name in ("champion", "history", "decisions", "decision"):
        assert name in done.stdout

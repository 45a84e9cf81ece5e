"""`promote` and `rollback` as a user types them."""

import json
import os
import pwd
import re

import pytest

from flywheel.ledger import Kind
from flywheel.records import Verdict

ME = pwd.getpwuid(os.getuid()).pw_name


def test_promote_makes_a_refused_model_champion_under_my_name(at_home, home, monkeypatch):
    monkeypatch.setenv("LOGNAME", "somebody-else")
    first, refused = home.promoted("first"), home.model("refused", Verdict.FAIL)
    told = at_home("promote", "--MODEL", refused, "--REASON", "The [old] camera broke.")
    assert told.exit_code == 0, told.output
    assert f"{refused} is champion, past its gate instead of {first}: The [old] camera broke." in told.output
    decision = home.ledger.decision(home.ledger.champion().decision_id)
    assert (decision.kind, decision.inputs["who"]) == (Kind.FORCE, ME)
    assert decision.id in told.output
    shown = at_home("champion").output
    assert re.search(rf"^by +{ME} *$", shown, re.MULTILINE)
    assert "force " in shown
    assert f"The [old] camera broke. ({ME})" in at_home("history").output


def test_promoting_the_champion_says_that_it_is(at_home, home):
    first = home.promoted("first")
    told = at_home("promote", "--model", first, "--reason", "Again.")
    assert told.exit_code == 0
    assert told.output.startswith(f"{first} is the champion already")
    assert home.ledger.decisions(kind=Kind.FORCE) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "MODEL=model-… expected"),
        (("--model", "model-x"), "a reason is expected"),
        (("--model", "model-x", "--reason", " "), "a reason is expected"),
        (("--model", "model-x", "--reason", "Why not."), "no folder"),
    ],
)
def test_promote_refuses_in_one_sentence(at_home, home, arguments, said):
    home.promoted("first")
    told = at_home("promote", *arguments)
    assert told.exit_code == 1
    assert said in told.output
    assert len(home.ledger.history()) == 1


def test_rollback_is_one_command(at_home, home):
    first, second = home.promoted("first"), home.promoted("second")
    told = at_home("rollback")
    assert told.exit_code == 0, told.output
    assert f"{first} is champion again instead of {second}: No reason was given." in told.output
    assert home.ledger.champion().model_id == first
    again = at_home("rollback", "--REASON", "Further.")
    assert again.exit_code == 1
    assert f"{first} has no champion before it" in again.output


def test_rollback_of_a_task_leaves_the_others(at_home, home):
    home.promoted("first")
    told = at_home("rollback", "--TASK", "task-other")
    assert told.exit_code == 1
    assert "No champion of task-other yet" in told.output


def test_decisions_by_hand_as_json(at_home, home):
    first, second = home.promoted("first"), home.promoted("second")
    told = json.loads(at_home("rollback", "--reason", "Why.", "--json").output)
    assert (told["champion_id"], told["previous_id"], told["promoted"]) == (first, second, True)
    told = json.loads(at_home("promote", "--model", second, "--reason", "Why.", "--json").output)
    assert (told["champion_id"], told["previous_id"]) == (second, first)


@pytest.mark.parametrize("command", [["rollback"], ["promote", "--model", "model-x", "--reason", "Why."]])
def test_without_a_ledger_nothing_is_made(tmp_path, monkeypatch, command):
    from typer.testing import CliRunner

    from flywheel.commands import app

    monkeypatch.setenv("FLYWHEEL_HOME", str(tmp_path))
    monkeypatch.setenv("FLYWHEEL_DATABASE_URL", "")
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 1
    assert "no ledger yet" in told.output
    assert list(tmp_path.iterdir()) == []


def outcomes(at_home) -> dict[str, str]:
    """Kind → what `decisions` says came of the newest of it."""
    rows = [re.split(r"  +", line.strip()) for line in at_home("decisions").output.splitlines() if "dec-" in line]
    return {row[2]: row[-1] for row in reversed(rows)}


def test_decisions_are_called_what_they_are(at_home, home, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    home.promoted("first")
    assert outcomes(at_home) == {"gate": "pass", "promotion": "promoted"}
    failed = home.model("second", Verdict.FAIL)
    assert not home.promote(failed).promoted
    assert outcomes(at_home) == {"gate": "fail", "promotion": "refused"}
    assert at_home("promote", "--MODEL", failed, "--REASON", "Needed.").exit_code == 0
    assert at_home("rollback").exit_code == 0
    assert outcomes(at_home) == {
        "gate": "fail", "promotion": "refused", "force": "forced by hand", "rollback": "rolled back"
    }  # fmt: skip
    refusal = home.ledger.decisions(kind=Kind.PROMOTION)[0]
    assert re.search("^outcome +refused *$", at_home("decision", refusal.id).output, re.MULTILINE)


def test_a_refusal_is_one_sentence_without_a_system_error(at_home, home):
    home.promoted("first")
    broken = home.model("second", Verdict.FAIL)
    (home.paths.model(broken) / "weights.safetensors").unlink()
    for spoil in (lambda: None, lambda: (home.paths.model(broken) / "model.json").unlink()):
        spoil()
        told = " ".join(at_home("promote", "--MODEL", broken, "--REASON", "Needed.").output.split())
        assert told.endswith(". The champion stays.")
        assert ".. " not in told
        assert "Errno" not in told

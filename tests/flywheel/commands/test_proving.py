"""`verify-ledger`, `migrate` and `explain` as a user types them."""

import json
import sqlite3
from contextlib import closing

import pytest
from typer.testing import CliRunner

from flywheel.commands import app
from flywheel.ledger.schema import LATEST
from tests.flywheel.lineage.test_model import flip


def tamper(home, *statements: str) -> None:
    with closing(sqlite3.connect(home.paths.ledger)) as connection, connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            connection.execute(statement)


def test_a_whole_ledger_is_said_to_be(at_home, home):
    home.promoted("first")
    told = at_home("verify-ledger")
    assert told.exit_code == 0
    assert "The ledger is whole: 4 rows, each as it was written." in told.output
    report = json.loads(at_home("verify-ledger", "--json").output)
    assert (report["verdict"], report["rows"], report["findings"]) == ("pass", 4, [])
    assert report["head"] in told.output


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM decisions WHERE position = 1", "decisions, row 1: removed."),
        ("DELETE FROM evaluation_set_uses WHERE position = 1", "evaluation_set_uses, row 1: removed."),
        ("DELETE FROM champions WHERE position = 1", "champions, row 1: removed."),
        ("UPDATE decisions SET verdict = 'fail' WHERE position = 2", "decisions, row 2: changed"),
    ],
)
def test_a_ledger_that_was_tampered_with_fails_and_names_the_row(at_home, home, statement, said):
    home.promoted("first")
    tamper(home, statement)
    told = at_home("verify-ledger")
    assert told.exit_code == 1
    assert "not as it was written" in told.output
    assert said in told.output
    assert json.loads(at_home("verify-ledger", "--json").output)["verdict"] == "fail"


def test_without_its_head_a_ledger_is_no_pass(at_home, home):
    home.promoted("first")
    home.paths.ledger_head.unlink()
    told = at_home("verify-ledger")
    assert told.exit_code == 1
    assert "No head of this ledger was kept" in told.output
    home.paths.ledger_head.write_text("?", encoding="utf-8")
    assert "unreadable" in at_home("verify-ledger").output


def test_migrate_says_from_where_to_where(at_home, home):
    told = at_home("migrate")
    assert told.exit_code == 0
    assert f"ledger.db: schema {LATEST} already." in told.output
    home.paths.ledger.unlink()
    assert f"schema none → {LATEST}." in at_home("migrate").output


@pytest.mark.postgres
def test_a_postgres_is_migrated_by_command_and_then_read(empty_postgres, tmp_path, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_HOME", str(tmp_path))
    monkeypatch.setenv("FLYWHEEL_DATABASE_URL", empty_postgres.url)
    before = CliRunner().invoke(app, ["champion"])
    assert before.exit_code == 1
    assert "Run 'make migrate' once." in before.output
    assert f"schema none → {LATEST}." in CliRunner().invoke(app, ["migrate"]).output
    assert "No champion yet" in CliRunner().invoke(app, ["champion"]).output
    assert "whole: 0 rows" in CliRunner().invoke(app, ["verify-ledger"]).output


def test_explain_prints_the_champions_tree(at_home, home):
    model = home.promoted("first")
    told = at_home("explain")
    assert told.exit_code == 0, told.output
    for id in (model, home.tag(model), home.gate(model).id, home.version.id, home.version.index_id, "data/raw/pets"):
        assert id in told.output
    assert told.output.rstrip().endswith("All is as it was.")
    assert at_home("explain", "--MODEL", model).output == told.output
    assert "No champion yet" in at_home("explain", "--TASK", "task-other").output


def test_explain_as_json_is_the_same_tree(at_home, home):
    model = home.promoted("first")
    root = json.loads(at_home("explain", "--json").output)
    assert (root["kind"], root["id"], root["check"]["state"]) == ("model", model, "whole")
    assert [child["relation"] for child in root["children"]] == ["champion of", "judged by", "trained on"]


def test_explain_says_what_was_changed(at_home, home):
    model = home.promoted("first")
    flip(home.paths.model(model) / "weights.safetensors")
    told = at_home("explain")
    assert told.exit_code == 1
    assert "changed: " in told.output
    assert f"1 not as they were: {model}" in told.output
    assert at_home("explain", "--json").exit_code == 1


def test_explain_of_an_image(at_home, home, tmp_path):
    model = home.promoted("first")
    image = next(home.paths.raw("pets").rglob("*.png"))
    told = at_home("explain", "--IMAGE", str(image))
    assert told.exit_code == 0, told.output
    assert model in told.output
    assert home.version.id in told.output
    missing = at_home("explain", "--IMAGE", str(tmp_path / "none.png"))
    assert missing.exit_code == 1
    assert "none.png: an image's file expected" in missing.output
    assert "several given" in at_home("explain", "--MODEL", model, "--IMAGE", str(image)).output

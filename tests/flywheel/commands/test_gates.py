"""The commands on a gate's policy: each file that can't be meant is refused, and says why."""

import pytest
from typer.testing import CliRunner

from flywheel.commands import app


def plan(file):
    return CliRunner().invoke(app, ["gate-plan", "--images", "8000", "--policy", str(file)])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("margin: 0.01\nplanned_gates: 3\nmargin: 0.1\n", "said twice: margin (lines 1 and 3)"),
        ("", "it is empty"),
        ("# nothing but a comment\n", "it is empty"),
        ("margin: .nan\n", "margin"),
        ("margin: 7\n", "7 found"),
        ("margins: 0.01\n", "margins"),
        ("- margin\n", "list found"),
        ("margin: [\n", "a YAML file of gate settings expected"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(tmp_path, text, told):
    file = tmp_path / "policy.yaml"
    file.write_text(text, encoding="utf-8")
    done = plan(file)
    assert done.exit_code == 1
    assert told in " ".join(done.output.split())


def test_a_file_that_is_not_there_is_named(tmp_path):
    done = plan(tmp_path / "none.yaml")
    assert done.exit_code == 1
    assert "none.yaml: a YAML file of gate settings expected" in done.output
    assert "(No such file or directory)" in done.output
    assert "Errno" not in done.output


def test_a_policy_that_is_meant_is_taken(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text("margin: 0.03\n", encoding="utf-8")
    assert "a margin of 3 points" in plan(file).output

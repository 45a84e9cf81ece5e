"""The commands on a gate's policy: each file that can't be meant is refused, and evidence that was changed is told."""

import json

import pytest
from typer.testing import CliRunner

from flywheel.commands import app
from flywheel.commands.policy_file import expected
from flywheel.evaluation.record import MANIFEST, PREDICTIONS
from flywheel.policies import GatePolicy
from tests.flywheel.lineage.test_model import flip

MARGIN = "a number above 0 and at most 0.5"
NO_MARGINS = {
    ".nan": "nan",
    ".inf": "inf",
    "-.inf": "-inf",
    "7": "7",
    "0": "0",
    "wide": "'wide'",
    "null": "nothing",
    "yes": "true",
    "[0.1]": "[0.1]",
}


def plan(file):
    return CliRunner().invoke(app, ["gate-plan", "--images", "8000", "--policy", str(file)])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("margin: 0.01\nplanned_gates: 3\nmargin: 0.1\n", "said twice: margin (lines 1 and 3)"),
        ('margin: 0.01\n"margin": 0.1\n', "said twice: margin (lines 1 and 2)"),
        ("", "it is empty"),
        ("# nothing but a comment\n", "it is empty. The default policy needs no POLICY="),
        ("{}\n", "it is empty"),
        *((f"margin: {value}\n", f"margin: {MARGIN} expected, {shown} found.") for value, shown in NO_MARGINS.items()),
        ("planned_gates: 3.5\n", "planned_gates: a whole number, at least 1 and at most 10,000 expected, 3.5 found."),
        ("planned_gates: true\n", "at most 10,000 expected, true found."),
        ("promote_non_inferior: maybe\n", "promote_non_inferior: true or false expected, 'maybe' found."),
        ("margins: 0.01\n", "margins: no such setting, margin perhaps."),
        ("MARGIN: 0.01\n", "MARGIN: no such setting, margin perhaps."),
        ("colour: blue\n", "colour: no such setting, these are: lift_over_majority, "),
        ("margin: 7\nslice_error: 1\n", "7 found; slice_error: a number above 0 and below 0.5 expected, 1 found."),
        ("- margin\n", "list found"),
        ("margin: 0.01\n\tslice_error: 0.1\n", "a YAML file of gate settings expected; line 2: found character"),
        ("margin: 0.01\n---\nmargin: 0.02\n", "expected; line 2: found another document."),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(tmp_path, text, told):
    file = tmp_path / "policy.yaml"
    file.write_text(text, encoding="utf-8")
    done = plan(file)
    assert done.exit_code == 1
    assert told in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert len(done.output.strip().splitlines()) == 1


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


def test_every_setting_has_a_range_in_words():
    for name, field in GatePolicy.model_fields.items():
        assert any(word in expected(name) for word in ("at least", "above", "true or false"))
        GatePolicy.model_validate({name: field.default})


def test_answers_that_were_changed_on_disk_are_told_before_they_are_made_again(at_home, home):
    first = home.promoted("first")
    gate = home.gate(first)
    evaluation = gate.inputs["evaluation_id"]
    assert "No longer as it was judged" not in at_home("replay").output
    flip(home.paths.report(evaluation) / PREDICTIONS)
    replayed = at_home("replay")
    assert replayed.exit_code == at_home("replay", "--json").exit_code == 1, "a script can see it"
    told = " ".join(replayed.output.split())
    assert f"No longer as it was judged, {evaluation}: " in told
    assert f"SHA-256 {gate.inputs['evidence_sha256'][:12]} expected" in told
    (again,) = json.loads(at_home("replay", "--json").output)
    assert again["changed"][0].startswith(f"{evaluation}: ")
    explained = at_home("explain", "--MODEL", first)
    assert explained.exit_code == 1
    assert f"not as they were: {evaluation}" in " ".join(explained.output.split())


def test_numbers_that_were_changed_beside_whole_answers_are_told(at_home, home):
    first = home.promoted("first")
    evaluation = home.gate(first).inputs["evaluation_id"]
    manifest = home.paths.report(evaluation) / MANIFEST
    found = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(found | {"top1": {"value": 0.99, "low": 0.98, "high": 1.0}}))
    for arguments in (("replay",), ("explain", "--MODEL", first)):
        assert "by the answers beside it expected" in " ".join(at_home(*arguments).output.split())

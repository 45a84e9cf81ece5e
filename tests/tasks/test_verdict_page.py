"""The page of a real verdict, from nothing but the ledger and the folders; what lies there no more is missing on it."""

import re
import shutil
from dataclasses import replace

import pytest

from flywheel.ledger import Kind, LedgerError
from flywheel.records import Verdict
from tasks.artifacts import gate_markdown, gate_question, link_to
from tasks.evaluation import evaluate_model
from tasks.verdict_page import make_verdict_page, plain_words, verdict_page
from tests.flywheel.report.reader import Reader
from tests.tasks.judged_project import NOON


@pytest.fixture(scope="module")
def judged_once(trained, tmp_path_factory):
    """A home in which the strong model was judged against the weak one; judging takes longer than all that is here."""
    project = replace(trained, home=tmp_path_factory.mktemp("judged") / "project")
    shutil.copytree(trained.home, project.home)
    first = project.judge(evaluate_model(project.weak, project.version, project.paths))
    assert project.promote(first).promoted
    return project, project.judge(evaluate_model(project.strong, project.version, project.paths))


@pytest.fixture
def judged(judged_once, tmp_path):
    """A copy to break, the verdict and its decision."""
    project, gate = judged_once
    shutil.copytree(project.home, tmp_path / "project")
    copy = replace(project, home=tmp_path / "project")
    return copy, gate, copy.ledger.decision(gate.id)


def read(page):
    return Reader(page.read_text(encoding="utf-8"))


def test_the_page_of_a_real_verdict_is_whole_and_breaks_where_its_folders_do(judged):
    project, gate, decision = judged
    page = make_verdict_page(decision, project.paths, lambda: NOON)
    assert page == project.paths.reports / gate.id / "verdict.html"
    found = read(page)
    assert found.open == []
    assert found.loaded
    assert all(target.startswith("data:image/") for target in found.loaded)
    for rule in gate.rules:
        assert " ".join(rule.reason.split()) in found.text
    for told in ("Each class", "Can their confidence be believed?", "gaussian noise", "Won, right with"):
        assert told in found.text
    assert "There are no curves" not in found.text
    assert "No picture" not in found.text
    assert "the verdict itself rests on" not in found.text  # the same images as the counts

    champion = project.paths.report(decision.inputs["champion_evaluation_id"])
    (champion / "robustness.json").unlink()
    shutil.rmtree(project.paths.images)
    found = read(make_verdict_page(decision, project.paths, lambda: NOON))
    assert "There are no curves" in found.text
    assert "No picture" in found.text
    assert found.loaded == []

    (champion / "logits.parquet").write_bytes(b"PAR1 other answers")
    found = read(make_verdict_page(decision, project.paths, lambda: NOON))
    assert "the champion's answers to the single images are not there" in found.text
    assert "Is it better?" in found.text


def test_a_first_models_page_names_no_champion(judged):
    project, _, _ = judged
    first = project.ledger.decisions(kind=Kind.GATE)[-1]
    found = read(make_verdict_page(first, project.paths))
    assert "first champion" in found.text
    assert "Slices" not in found.text


def test_a_page_that_can_not_be_made_leaves_the_verdict_alone(judged, caplog):
    project, gate, decision = judged
    bare = replace(decision, evidence={"gate": decision.evidence["gate"]})
    with pytest.raises(LedgerError, match="before whole evidence was kept"):
        make_verdict_page(bare, project.paths)
    assert plain_words(bare) == gate.reason
    project.paths.verdict(gate.id).write_text("a file where the folder should be")
    assert verdict_page(gate, project.ledger, project.paths) is None
    assert f"{gate.id} has no page" in caplog.text
    assert link_to(None, project.paths) == ""
    assert gate.verdict is Verdict.PASS


def test_the_page_is_made_once_and_led_to_from_the_artifact(judged):
    project, gate, _ = judged
    page = verdict_page(gate, project.ledger, project.paths)
    page.write_text("as it was")
    assert verdict_page(gate, project.ledger, project.paths) == page
    assert page.read_text() == "as it was"
    assert f"`{page}`" in gate_markdown(gate, page=link_to(page, project.paths))

    again = verdict_page(gate, project.ledger, project.paths, again=True, clock=lambda: NOON)
    assert "Is it better?" in read(again).text


def test_a_person_is_asked_in_plain_words_and_told_each_rule(judged):
    _, gate, decision = judged
    told = gate_question(gate, plain_words(decision), "`verdict.html`")
    assert "The new model may become champion: it is better than the present one, and passes every rule." in told
    assert "Beside the champion, with images: `verdict.html`" in told
    assert all(f"\n- {rule.rule}, pass: " in told for rule in gate.rules)
    assert re.search(r"\n- champion, pass: \+[\d.]+ \[[-+.\d]+, [-+.\d]+\], asked 0\.0\n", told)
    assert re.search(r"\n- top-1, pass: \[[.\d]+, [.\d]+\], [.\d]+ asked of its low end\n", told)
    failing = replace(gate.rules[0], verdict=Verdict.FAIL, reason="One image was learned from.")
    told = gate_question(replace(gate, rules=(failing,)), "Why.", "")
    assert "- leaks, **FAIL**: One image was learned from." in told
    assert "verdict.html" not in told

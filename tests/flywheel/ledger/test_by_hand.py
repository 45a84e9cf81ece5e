"""Forced promotions, rollbacks and the anchor, on SQLite and on Postgres."""

import pytest

from flywheel.ledger import Champion, Decision, Kind, Ledger, LedgerError
from flywheel.ledger.by_hand import anchor_of
from flywheel.records import Verdict
from tests.flywheel.ledger.judging import NOON, force, gate, promote, rollback


@pytest.fixture
def ledger(database) -> Ledger:
    return database.open()


def models(ledger: Ledger) -> list[str]:
    return [champion.model_id[-1] for champion in ledger.history("task-1")[::-1]]


def promote_all(ledger: Ledger, names: str) -> None:
    for name in names:
        current = ledger.champion("task-1")
        promote(ledger, f"model-{name}", champion=current and current.model_id)


def test_a_forced_model_is_champion_with_the_name_and_reason_on_record(ledger):
    promote(ledger)
    release = force(ledger, "model-b", champion="model-a", reason="  The camera was changed.  ")
    assert (release.promoted, release.champion_id, release.previous_id) == (True, "model-b", "model-a")
    decision = ledger.decision(ledger.champion().decision_id)
    assert (decision.kind, decision.verdict) == (Kind.FORCE, Verdict.PASS)
    assert (decision.reason, decision.inputs["who"]) == ("The camera was changed.", "ada")
    assert decision.evidence["gate_verdict"] == "fail"
    assert decision.evidence["artifacts"] == {"weights_sha256": "0"}
    assert ledger.gate_of_champion(ledger.champion()).inputs["model_id"] == "model-b"


@pytest.mark.parametrize(("reason", "who"), [("", "ada"), (" \n", "ada"), ("Because.", " ")])
def test_nobody_forces_without_a_reason_and_a_name(ledger, reason, who):
    with pytest.raises(LedgerError, match="needs a reason and a name"):
        force(ledger, "model-b", reason=reason, who=who)
    assert ledger.champion() is None
    assert ledger.decisions(kind=Kind.FORCE) == []


def test_a_force_rests_on_a_gate_decision(ledger):
    release = promote(ledger)
    promotion = ledger.decision(release.decision_id)
    with pytest.raises(LedgerError, match="rests on a gate's"):
        ledger.force(promotion, "classifier:x", reason="Because.", who="ada", artifacts={})


def test_the_champion_is_not_forced_again(ledger):
    first = force(ledger, "model-b")
    again = force(ledger, "model-b")
    assert (again.promoted, again.decision_id) == (False, first.decision_id)
    assert len(ledger.history()) == 1


def test_a_rollback_brings_the_champion_before_back_by_a_decision_of_its_own(ledger):
    promote_all(ledger, "ab")
    before = ledger.history()
    release = rollback(ledger)
    assert (release.promoted, release.champion_id, release.previous_id) == (True, "model-a", "model-b")
    assert ledger.history()[1:] == before
    champion, decision = ledger.champion(), ledger.decision(ledger.champion().decision_id)
    assert (champion.model_id, champion.bento_tag) == ("model-a", "classifier:model-a")
    assert (decision.kind, decision.reason, decision.inputs["who"]) == (Kind.ROLLBACK, "It drifts.", "ada")
    assert decision.inputs["restores"] == before[1].position
    assert ledger.gate_of_champion(champion).inputs["model_id"] == "model-a"


def test_each_rollback_goes_further_back_and_none_forward_again(ledger):
    promote_all(ledger, "abc")
    rollback(ledger)
    rollback(ledger)
    assert models(ledger) == list("abcba")
    assert ledger.previous_champion("task-1") is None
    promote_all(ledger, "d")
    rollback(ledger)
    assert models(ledger) == list("abcbada")
    assert ledger.previous_champion("task-1") is None


def test_a_release_of_the_same_again_is_no_champion_to_go_back_to(ledger):
    promote_all(ledger, "abc")
    for _ in range(3):
        ledger.release_again(ledger.champion("task-1"), reason="again", who="a test", artifacts={})
    rollback(ledger)
    assert ledger.champion("task-1").model_id == "model-b"
    ledger.release_again(ledger.champion("task-1"), reason="again", who="a test", artifacts={})
    assert ledger.previous_champion("task-1").model_id == "model-a"


def test_what_is_promoted_after_a_rollback_goes_back_to_where_the_rollback_went(ledger):
    promote_all(ledger, "abc")
    rollback(ledger)
    promote_all(ledger, "d")
    assert ledger.previous_champion("task-1").model_id == "model-b"
    rollback(ledger)
    assert ledger.previous_champion("task-1").model_id == "model-a"


def test_there_is_no_way_back_before_the_first_champion(ledger):
    assert ledger.previous_champion("task-1") is None
    promote(ledger)
    assert ledger.previous_champion("task-1") is None
    promote_all(ledger, "b")
    assert ledger.previous_champion("task-2") is None


def test_a_champion_that_moved_meanwhile_is_not_rolled_back(ledger):
    promote_all(ledger, "ab")
    current, target = ledger.champion(), ledger.previous_champion("task-1")
    promote_all(ledger, "c")
    with pytest.raises(LedgerError, match="moved meanwhile"):
        ledger.rollback(current, target, reason="", who="ada", artifacts={})
    assert models(ledger) == list("abc")


def test_the_same_way_back_twice_is_two_decisions(ledger):
    promote_all(ledger, "ab")
    rollback(ledger)
    promote_all(ledger, "b")
    rollback(ledger)
    assert models(ledger) == list("ababa")
    assert len({champion.decision_id for champion in ledger.history()}) == 5


def standing(*steps: tuple[str, str]) -> tuple[list[Champion], dict[str, Decision]]:
    """A task's history and its decisions. A step is a model and how it became champion: on which ground it was promoted
    (“absent” is a gate from before there were grounds), “force”, or the position that a rollback went back to."""
    history, decisions = [], {}
    for position, (name, how) in enumerate(steps, 1):
        kind = Kind.FORCE if how == "force" else Kind.ROLLBACK if how.isdecimal() else Kind.PROMOTION
        grounds = {} if how == "absent" else {"promotes_as": None if how == "none" else how}
        inputs = {"gate_decision_id": f"gate-{position}", "restores": int(how) if how.isdecimal() else None}
        rest = (Verdict.PASS, "", NOON, "")
        decisions[f"gate-{position}"] = Decision("", Kind.GATE, "task-1", {}, {}, {"gate": grounds}, *rest)
        decisions[f"dec-{position}"] = Decision("", kind, "task-1", inputs, {}, {}, *rest)
        history.append(Champion(position, "task-1", name, f"dec-{position}", "classifier:x", NOON))
    return history, decisions


@pytest.mark.parametrize(
    ("steps", "anchor"),
    [
        ([], None),
        ([("a", "first")], "a"),
        ([("a", "first"), ("b", "non-inferior"), ("c", "non-inferior")], "a"),
        ([("a", "first"), ("b", "superior"), ("c", "non-inferior")], "b"),
        ([("a", "non-inferior"), ("b", "non-inferior")], "a"),  # the first champion, whatever its gate said
        ([("a", "absent"), ("b", "absent"), ("c", "non-inferior")], "b"),  # older gates count as superior
        ([("a", "first"), ("b", "none")], "a"),
        ([("a", "first"), ("b", "force"), ("c", "non-inferior")], "b"),
        ([("a", "first"), ("b", "non-inferior"), ("c", "superior"), ("b", "2")], "a"),
        ([("a", "first"), ("b", "superior"), ("c", "superior"), ("b", "2"), ("d", "non-inferior")], "b"),
        ([("a", "first"), ("b", "force"), ("a", "1"), ("c", "non-inferior")], "a"),
    ],
)
def test_the_anchor_is_the_last_model_promoted_as_superior(steps, anchor):
    assert anchor_of(*standing(*steps)) == anchor


def test_the_ledger_finds_the_anchor_of_a_task(ledger):
    assert ledger.anchor("task-1") is None
    promote(ledger)
    assert ledger.anchor("task-1") == "model-a"
    force(ledger, "model-b", champion="model-a")
    assert ledger.anchor("task-1") == "model-b"
    rollback(ledger)
    assert ledger.anchor("task-1") == "model-a"
    assert ledger.anchor("task-2") is None


def test_uses_of_a_task_come_with_their_decisions_in_order(ledger):
    gate(ledger)
    gate(ledger, "model-b", champion="model-a", verdict=Verdict.FAIL)
    gate(ledger, "model-b", champion="model-a", policy={"largest_ece": 0.2})  # the same question: no further use
    gate(ledger, "model-z", task="task-2")
    used = ledger.evaluation_set_uses_of_task("task-1")
    assert [each.use.model_id for each in used] == ["model-a", "model-b"]
    assert [each.decision.verdict for each in used] == [Verdict.PASS, Verdict.FAIL]
    assert used[1].decision.inputs["champion_id"] == used[1].use.champion_id == "model-a"
    assert used[1].decision.evidence["gate"]["verdict"] == "fail"
    assert [each.use.model_id for each in ledger.evaluation_set_uses_of_task("task-2")] == ["model-z"]
    assert ledger.evaluation_set_uses_of_task("task-3") == []

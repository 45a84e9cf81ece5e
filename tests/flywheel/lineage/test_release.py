"""By hand a champion moves to a whole model in a whole Bento, with name and reason, or not at all."""

import contextlib
import shutil
import sqlite3

import pytest

from flywheel.ledger import Kind, LedgerError
from flywheel.lineage.node import LineageError
from flywheel.lineage.release import demand_releasable, force_champion, restore_previous
from flywheel.records import Verdict
from tests.flywheel.lineage.conftest import Home
from tests.flywheel.lineage.test_model import change_pin, flip, of


def force(home: Home, model: str, reason="The camera was changed.", **more):
    return force_champion(model, home.ledger, home.paths, reason=reason, who="ada", **more)


def go_back(home: Home, reason=""):
    return restore_previous(None, home.ledger, home.paths, reason=reason, who="ada")


def champion(home: Home) -> str | None:
    found = home.ledger.champion()
    return found and found.model_id


def test_a_model_whose_gate_did_not_pass_is_forced_in_with_its_bento(home):
    first, refused = home.promoted("first"), home.model("refused", Verdict.FAIL)
    release = force(home, refused)
    assert (release.promoted, release.previous_id, release.bento_tag) == (True, first, home.tag(refused))
    decision = home.ledger.decision(release.decision_id)
    assert (decision.kind, decision.reason) == (Kind.FORCE, "The camera was changed.")
    assert decision.inputs["gate_decision_id"] == home.gate(refused).id
    assert set(decision.evidence["artifacts"]) == {"weights_sha256", "dataset_sha256", "index_sha256", "validations"}


@pytest.mark.parametrize("reason", ["", "  \n "])
def test_an_empty_reason_is_refused(home, reason):
    with pytest.raises(LineageError, match="a reason is expected"):
        force(home, home.model("refused", Verdict.FAIL), reason=reason)
    assert champion(home) is None


DAMAGES = {"weights": flip, "service": flip, "pins": change_pin, "packaged weights": flip}


@pytest.mark.parametrize("artifact", DAMAGES)
def test_a_damaged_model_or_bento_is_neither_forced_in_nor_gone_back_to(home, artifact):
    first, second = home.promoted("first"), home.promoted("second")
    refused = home.model("refused", Verdict.FAIL)
    for model in (first, refused):
        DAMAGES[artifact](of(home, model)[artifact])
    with pytest.raises(LineageError, match="The champion stays"):
        force(home, refused)
    with pytest.raises(LineageError, match="The champion stays"):
        go_back(home)
    assert champion(home) == second
    assert home.ledger.decisions(kind=Kind.FORCE) == home.ledger.decisions(kind=Kind.ROLLBACK) == []


@pytest.mark.parametrize("gone", ["model", "bento", "packaged model"])
def test_a_missing_model_or_bento_is_neither_forced_in_nor_gone_back_to(home, gone):
    first, second = home.promoted("first"), home.promoted("second")
    refused = home.model("refused", Verdict.FAIL)
    for model in (first, refused):
        where = {
            "model": home.paths.model(model),
            "bento": home.paths.bentoml / "bentos" / home.tag(model).replace(":", "/"),
            "packaged model": home.paths.bentoml / "models" / "classifier" / model[6:],
        }
        shutil.rmtree(where[gone])
    with pytest.raises(LineageError, match="The champion stays"):
        force(home, refused)
    with pytest.raises(LineageError, match="The champion stays"):
        go_back(home)
    assert champion(home) == second


def test_another_models_bento_is_refused(home):
    first, second = home.model("first"), home.model("second")
    with pytest.raises(LineageError, match=f"it carries {second}"):
        force(home, first, bento=home.tag(second))
    with pytest.raises(LineageError, match="The champion stays"):
        force(home, first, bento="../../escape")


def test_a_model_that_no_gate_has_judged_here_is_refused(home, monkeypatch):
    refused = home.model("refused", Verdict.FAIL)
    for file in home.paths.state.glob("ledger*"):
        file.unlink()
    with pytest.raises(LineageError, match="no gate has judged it"):
        force(home, refused)


def test_the_champion_before_comes_back(home):
    first, second = home.promoted("first"), home.promoted("second")
    release = go_back(home, "It drifts.")
    assert (release.champion_id, release.previous_id, release.bento_tag) == (first, second, home.tag(first))
    assert home.ledger.decision(release.decision_id).reason == "It drifts."
    with pytest.raises(LineageError, match="no champion before it"):
        go_back(home)
    assert champion(home) == first


def test_without_a_champion_there_is_nothing_to_go_back_from(home):
    with pytest.raises(LineageError, match="nothing to go back from"):
        go_back(home)
    assert home.ledger.decisions() == []


def test_a_force_is_gone_back_from_as_any_promotion_is(home):
    first = home.promoted("first")
    force(home, home.model("refused", Verdict.FAIL))
    go_back(home)
    assert champion(home) == first
    assert home.ledger.verify().verdict is Verdict.PASS


def test_a_release_rests_on_a_gate_and_a_whole_bento_of_its_model(home):
    first, second = home.model("first"), home.model("second")
    gate = home.gate(first)
    assert demand_releasable(gate.id, home.tag(first), home.ledger, home.paths) == gate
    with pytest.raises(LineageError, match=f"it carries {second}"):
        demand_releasable(gate.id, home.tag(second), home.ledger, home.paths)
    with pytest.raises(LineageError, match="not in"):
        demand_releasable(gate.id, "classifier:000000000000-00000000", home.ledger, home.paths)
    with pytest.raises(LedgerError, match="no such decision"):
        demand_releasable("dec-nothing", home.tag(first), home.ledger, home.paths)
    champions = home.promoted("third")
    (promotion,) = home.ledger.decisions(kind=Kind.PROMOTION)
    with pytest.raises(LineageError, match="rests on a gate's"):
        demand_releasable(promotion.id, home.tag(champions), home.ledger, home.paths)


@pytest.mark.parametrize("artifact", DAMAGES)
def test_a_model_or_bento_that_was_damaged_since_the_gate_is_not_released(home, artifact):
    model = home.model("first")
    DAMAGES[artifact](of(home, model)[artifact])
    with pytest.raises(LineageError, match="The champion stays"):
        demand_releasable(home.gate(model).id, home.tag(model), home.ledger, home.paths)


def test_a_verdict_that_was_changed_by_hand_makes_no_champion(home):
    refused = home.model("refused", Verdict.FAIL)
    gate = home.gate(refused)
    (file,) = home.paths.state.glob("ledger.db")
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        names = connection.execute("select name from sqlite_master where type = 'trigger'").fetchall()
        for (name,) in names:
            connection.execute(f'drop trigger "{name}"')
        connection.execute("update decisions set verdict = 'pass' where id = ?", (gate.id,))
    assert home.ledger.decision(gate.id).verdict is Verdict.PASS
    with pytest.raises(LineageError, match="verify-ledger"):
        demand_releasable(gate.id, home.tag(refused), home.ledger, home.paths)
    with pytest.raises(LineageError, match="verify-ledger"):
        force(home, refused)
    assert champion(home) is None


def test_who_can_not_go_back_is_told_the_way_past_it(home):
    first, _ = home.promoted("first"), home.promoted("second")
    shutil.rmtree(home.paths.bentoml / "bentos" / home.tag(first).replace(":", "/"))
    with pytest.raises(LineageError, match=r"make history.*make promote MODEL="):
        go_back(home)

"""From a prediction back to its source, and from an image on to the models that were asked about it."""

import shutil

import pytest

from flywheel.ledger.predictions import PredictionRow, Role, Serving
from flywheel.lineage.image import explain_image
from flywheel.lineage.node import LineageError, State, all_nodes
from flywheel.lineage.prediction import explain_prediction
from flywheel.lineage.release import demand_trial
from flywheel.records import Side, Verdict
from tests.flywheel.ledger.test_predictions import row as plain_row
from tests.flywheel.lineage.conftest import NOON, Home, image_on


def predicted(home: Home, image_id: str, *, kept: bool = False) -> tuple[PredictionRow, Serving]:
    """A prediction of the task's champion."""
    champion = home.ledger.champion()
    serving = Serving(
        5, champion.task_id, champion.model_id, champion.bento_tag, champion.decision_id, Role.CHAMPION, "host:1", NOON
    )
    found = plain_row(1, serving, image_id)._replace(kept=kept)
    home.predictions.append([serving], [found])
    return found, serving


def explained(home: Home, prediction_id: str):
    return explain_prediction(prediction_id, home.ledger, home.predictions, home.paths)


def test_a_prediction_leads_to_release_bento_model_gate_dataset_and_source(home):
    model_id = home.promoted("first")
    identity, _ = image_on(home, Side.TRAIN)
    row, _ = predicted(home, identity)
    home.predictions.add_label(row.id, "dog", source="keeper", client="")
    root = explained(home, row.id)
    found = {(each.relation, each.kind): each.id for each in all_nodes(root)}
    assert root.id == row.id
    assert f"by {model_id} as champion" in root.told
    assert found[("of", "image")] == identity[:12]
    assert found[("labelled by", "source")] == "keeper"
    assert found[("champion of", "task")] == home.version.task_id
    assert found[("answered from", "Bento")] == home.tag(model_id)
    assert found[("", "model")] == model_id
    assert ("made of", "index") in found
    assert any(each.kind == "source" and each.relation == "read from" for each in all_nodes(root))


def test_a_kept_image_is_held_against_its_name(home):
    home.promoted("first")
    identity, file = image_on(home, Side.TRAIN)
    row, _ = predicted(home, identity, kept=True)
    kept = home.paths.predicted / identity[:2] / identity

    def state() -> State:
        return next(each.check.state for each in explained(home, row.id).children if each.relation == "of")

    assert state() is State.UNCHECKED
    kept.parent.mkdir(parents=True)
    shutil.copyfile(file, kept)
    assert state() is State.WHOLE
    kept.write_bytes(b"something else")
    assert state() is State.CHANGED


def test_an_unknown_prediction_is_refused(home):
    home.promoted("first")
    with pytest.raises(LineageError, match="no such prediction"):
        explained(home, "0199f2a4-7c00-7000-8000-000000000000")


def test_an_image_leads_to_the_models_that_were_asked_about_it(home):
    model_id = home.promoted("first")
    identity, file = image_on(home, Side.TRAIN)
    predicted(home, identity)
    root = explain_image(str(file), home.ledger, home.predictions, home.paths)
    assert [(each.relation, each.id, each.told) for each in root.children if each.relation == "classified by"] == [
        ("classified by", model_id, "1 times")
    ]


def test_an_image_that_only_a_service_saw_is_known(home):
    model_id = home.promoted("first")
    predicted(home, "ab" * 32)
    root = explain_image("ab" * 32, home.ledger, home.predictions, home.paths)
    assert (root.check.state, [each.id for each in root.children]) == (State.UNCHECKED, [model_id])


def test_only_a_model_that_passed_may_answer_clients_but_any_whole_one_may_look_on(home):
    home.promoted("first")
    failed = home.model("second", Verdict.FAIL)
    assert demand_trial(failed, Role.SHADOW, home.ledger, home.paths) == (home.version.task_id, home.tag(failed))
    with pytest.raises(LineageError, match="answers no client"):
        demand_trial(failed, Role.CANARY, home.ledger, home.paths)
    passed = home.model("third")
    assert demand_trial(passed, Role.CANARY, home.ledger, home.paths)[1] == home.tag(passed)
    (home.paths.model(passed) / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(LineageError, match="champion stays"):
        demand_trial(passed, Role.CANARY, home.ledger, home.paths)

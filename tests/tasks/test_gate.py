"""The gate on real models: what is measured, recorded and promoted, and every way in which something can be missing."""

import json
import shutil
from dataclasses import replace

import pytest

from flywheel.commands.replaying import replay
from flywheel.evaluation.record import read_predictions
from flywheel.ledger import Kind
from flywheel.model.inference import load_model
from flywheel.policies import GatePolicy
from flywheel.records import ProbeResult, PromotesAs, Verdict
from tasks import rehearsing
from tasks.evaluation import evaluate_model
from tasks.gate_plan import GatePlanError, demand_power
from tasks.rehearsing import RehearsalError, demand_budget
from tests.tasks.judged_project import OPEN, served_alike


@pytest.fixture
def evaluations(project):
    return {name: evaluate_model(getattr(project, name), project.version, project.paths) for name in ("weak", "strong")}


@pytest.fixture
def defended(project, evaluations):
    """The weak model is champion."""
    assert project.promote(project.judge(evaluations["weak"])).promoted
    return project


def rules_of(verdict):
    return {rule.rule: rule for rule in verdict.rules}


def test_a_better_model_takes_over_and_a_worse_one_does_not(project, evaluations):
    assert evaluations["strong"].top1.value > evaluations["weak"].top1.value
    first = project.judge(evaluations["weak"])
    assert (first.verdict, first.champion_id, first.promotes_as) == (Verdict.PASS, None, PromotesAs.FIRST)
    assert project.promote(first).promoted
    second = project.judge(evaluations["strong"])
    assert (second.verdict, second.champion_id) == (Verdict.PASS, project.weak.id), second.reason
    assert (second.promotes_as, second.anchor_id) == (PromotesAs.SUPERIOR, project.weak.id)
    assert project.promote(second).promoted
    third = project.judge(evaluations["weak"])
    assert third.verdict is Verdict.FAIL
    assert "Inferior" in third.reason
    assert third.anchor_id == project.strong.id
    assert not project.promote(third).promoted
    assert project.ledger.champion().model_id == project.strong.id


def test_each_comparison_is_a_use_and_the_next_one_has_less_to_spend(defended, evaluations):
    defended.judge(evaluations["strong"])
    measured = defended.ledger.decisions(kind=Kind.GATE)[0].evidence["measured"]
    assert measured["uses"] == [{"compared": False, "outcome": "superior"}]
    assert len(defended.ledger.evaluation_set_uses(defended.version.evaluation_set_id)) == 2
    # the same question under another policy is the same use
    defended.judge(evaluations["strong"], OPEN.model_copy(update={"margin": 0.4}))
    again = defended.ledger.decisions(kind=Kind.GATE)[0].evidence["measured"]
    assert again["uses"] == measured["uses"]
    assert len(defended.ledger.evaluation_set_uses(defended.version.evaluation_set_id)) == 2


def test_a_question_asked_twice_keeps_its_answer_and_measures_nothing(defended, evaluations):
    first = defended.judge(evaluations["strong"])
    shutil.rmtree(defended.paths.models)
    assert defended.judge(evaluations["strong"]) == first
    assert len(defended.ledger.decisions(kind=Kind.GATE)) == 2


def test_the_champion_judged_again_keeps_the_verdict_that_made_it_champion(project, evaluations):
    first = project.judge(evaluations["strong"])
    project.promote(first)
    again = project.judge(evaluations["strong"])
    assert again == first
    assert "champion already" in project.promote(again).reason
    assert len(project.ledger.decisions(kind=Kind.GATE)) == 1


def test_the_champion_judged_under_another_policy_is_another_decision(project, evaluations):
    first = project.judge(evaluations["strong"])
    project.promote(first)
    stricter = project.judge(evaluations["strong"], OPEN.model_copy(update={"smallest_evaluation_set": 10_000}))
    assert stricter.id != first.id
    assert stricter.verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert rules_of(stricter)["champion"].reason == f"{project.strong.id} is the champion itself."


def test_a_champion_without_a_record_is_measured_now(defended):
    shutil.rmtree(defended.paths.reports)
    verdict = defended.judge(evaluate_model(defended.strong, defended.version, defended.paths))
    assert verdict.verdict is Verdict.PASS
    recorded = defended.ledger.decision(verdict.id)
    assert defended.paths.report(recorded.inputs["champion_evaluation_id"]).is_dir()
    assert recorded.evidence["measured"]["champion"]["model_id"] == defended.weak.id


def test_each_model_is_loaded_once_and_its_answers_read_once(defended, monkeypatch):
    """Also where the champion, which is the anchor too, must be measured first."""
    evaluation = evaluate_model(defended.strong, defended.version, defended.paths)
    shutil.rmtree(defended.paths.report(defended.ledger.decisions(kind=Kind.GATE)[0].inputs["evaluation_id"]))
    loaded, read = [], []

    def counted(heard, call):
        return lambda folder, *more: heard.append(folder.name) or call(folder, *more)

    monkeypatch.setattr("flywheel.model.inference.load_model", counted(loaded, load_model))
    monkeypatch.setattr("tasks.gate_evidence.read_predictions", counted(read, read_predictions))
    verdict = defended.judge(evaluation)
    assert verdict.verdict is Verdict.PASS
    inputs = defended.ledger.decision(verdict.id).inputs
    assert inputs["champion_id"] == inputs["anchor_id"]
    assert sorted(loaded) == sorted([defended.weak.id, defended.strong.id])
    assert sorted(read) == sorted([inputs["evaluation_id"], inputs["champion_evaluation_id"]])


def test_a_champion_that_can_not_be_loaded_stays_and_the_reason_says_why(defended):
    shutil.rmtree(defended.paths.reports)
    (defended.paths.model(defended.weak.id) / "weights.safetensors").write_bytes(b"rust")
    verdict = defended.judge(evaluate_model(defended.strong, defended.version, defended.paths))
    assert verdict.verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert "SHA-256" in rules_of(verdict)["champion"].reason
    assert not defended.promote(verdict).promoted
    assert defended.ledger.champion().model_id == defended.weak.id


def test_a_champion_whose_dataset_is_gone_can_not_be_checked_for_leaks(defended, evaluations):
    shutil.rmtree(defended.paths.dataset(defended.version.id))
    verdict = defended.judge(evaluations["strong"])
    assert verdict.verdict is not Verdict.PASS
    assert rules_of(verdict)["leaks"].verdict is not Verdict.PASS
    assert defended.version.id in rules_of(verdict)["leaks"].reason


def test_answers_that_were_damaged_are_no_evidence(defended, evaluations):
    (evaluations["weak"].folder / "logits.parquet").write_bytes(b"PAR1")
    (defended.paths.model(defended.weak.id) / "weights.safetensors").write_bytes(b"rust")
    verdict = defended.judge(evaluations["strong"])
    assert verdict.verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert not defended.promote(verdict).promoted


def test_a_bento_that_answers_otherwise_is_refused(project, evaluations):
    parity = replace(served_alike(project.weak.id), probes=(ProbeResult("exif 6", 0.5),))
    verdict = project.judge(evaluations["weak"], parity=parity)
    assert verdict.verdict is Verdict.FAIL
    assert "exif 6" in verdict.reason
    # once it is mended the model is judged anew
    assert project.judge(evaluations["weak"]).verdict is Verdict.PASS


def test_a_bento_that_was_never_served_is_not_promoted(project, evaluations):
    verdict = project.judge(evaluations["weak"], parity=replace(served_alike("x"), probes=(), problem="it died"))
    assert verdict.verdict is Verdict.FAIL
    assert "it died" in verdict.reason


def test_the_same_policy_replays_to_the_byte_and_another_one_may_end_otherwise(defended, evaluations):
    defended.judge(evaluations["strong"])
    decisions = defended.ledger.decisions(kind=Kind.GATE)
    own = replay(decisions, None)
    assert [each.same_bytes for each in own] == [True, True]
    strict = replay(decisions, GatePolicy())
    assert [each.replayed for each in strict] != [Verdict.PASS, Verdict.PASS]


def test_the_decision_holds_what_another_policy_would_need(defended, evaluations):
    verdict = defended.judge(evaluations["strong"])
    decision = defended.ledger.decision(verdict.id)
    measured = decision.evidence["measured"]
    assert measured["challenger"]["confusion"] == []
    assert len(measured["challenger"]["classes"]) == 3
    assert json.dumps(decision.policy)
    assert decision.inputs["evidence_sha256"] == measured["challenger"]["correct_sha256"]
    frozen = defended.version.counts["frozen"]
    for role in ("champion", "anchor"):
        assert sum(measured[role]["counts"].values()) == frozen
    assert {part["name"] for part in measured["slices"]} >= {"class zero", "brightness low", "sharpness high"}
    assert measured["problems"] is None


def test_a_policy_without_power_is_refused_before_training_with_what_would_do(defended):
    champion = defended.ledger.champion()
    with pytest.raises(GatePlanError, match=r"It takes [\d,]+ images, or a margin of 0\.\d+"):
        demand_power(defended.version, champion, GatePolicy(), defended.ledger, defended.paths)
    demand_power(defended.version, champion, OPEN, defended.ledger, defended.paths)
    demand_power(defended.version, None, GatePolicy(), defended.ledger, defended.paths)


def test_a_spent_budget_is_the_gates_to_say(defended, evaluations):
    once = OPEN.model_copy(update={"planned_gates": 1, "margin": 0.001})
    other = replace(evaluations["strong"], model_id="model-other", id="eval-other")
    assert defended.judge(other, once).verdict is not Verdict.PASS
    verdict = defended.judge(evaluations["strong"], once)
    assert verdict.verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert "have served all 1 planned comparisons" in verdict.reason
    assert "new labelled images on the frozen side restore it" in verdict.reason
    demand_power(defended.version, defended.ledger.champion(), once, defended.ledger, defended.paths)


def test_a_rehearsal_says_what_it_uses_of_the_frozen_set_and_is_refused_where_nothing_is_left(
    defended, evaluations, monkeypatch
):
    asked = (defended.ledger.champion(), defended.version, defended.ledger, defended.paths)
    other = replace(evaluations["strong"], model_id="model-other", id="eval-other")
    assert defended.judge(other, OPEN.model_copy(update={"margin": 0.001})).verdict is not Verdict.PASS
    spending = demand_budget(*asked)
    assert (spending.number, spending.planned) == (2, 10)
    monkeypatch.setattr(rehearsing, "policy_of", lambda _: {"gate": {"planned_gates": 1}})
    with pytest.raises(RehearsalError, match="FLYWHEEL_HOME=/somewhere/else"):
        demand_budget(*asked)

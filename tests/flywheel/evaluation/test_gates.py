"""Each rule at its border, and every way in which evidence can be missing: nothing but evidence passes."""

from dataclasses import replace
from pathlib import Path

import pytest

from flywheel.evaluation.gates import gate_inputs, gate_policy, judge, overall
from flywheel.evaluation.statistics import wilson
from flywheel.identity import name_of
from flywheel.records import ClassResult, Evaluation, Interval, RuleResult, Verdict, from_json, to_json
from flywheel.settings import GatePolicy

POLICY = GatePolicy(lift_over_majority=0.2, worst_class_recall=0.2, largest_ece=0.15, smallest_evaluation_set=100)
NAN = float("nan")


def evaluation(right: int = 800, model: str = "model-new", **changes) -> Evaluation:
    """1,000 images of two classes, 500 each."""
    classes = tuple(ClassResult(label, 500, wilson(right // 2, 500), 0.8) for label in ("ant", "bee"))
    whole = Evaluation(
        id=f"eval-{model}",
        folder=Path("reports") / model,
        model_id=model,
        dataset_id="ds-1",
        evaluation_set_id="evalset-1",
        role="frozen",
        images=1000,
        top1=wilson(right, 1000),
        majority_rate=0.5,
        classes=classes,
        confusion=((400, 100), (100, 400)),
        ece=0.05,
        nll=0.5,
        images_per_second=1000.0,
        correct_sha256="ab" * 32,
    )
    return replace(whole, **changes)


def verdicts(challenger: Evaluation, champion: Evaluation | None = None, **more) -> dict[str, Verdict]:
    return {rule.rule: rule.verdict for rule in judge(challenger, champion, POLICY, task_id="task-1", **more).rules}


def test_a_good_first_model_passes_all_five_rules():
    verdict = judge(evaluation(), None, POLICY, task_id="task-1")
    assert verdict.verdict is Verdict.PASS
    assert verdict.reason == "All 5 rules passed."
    assert [rule.rule for rule in verdict.rules] == ["evaluation set", "top-1", "worst class recall", "ECE", "champion"]


def test_the_top1_floor_is_the_majority_rate_and_a_share_of_the_rest():
    # .5 + .2 × .5 = .6; Wilson's low end reaches it at 631 of 1,000 (.6007) and not at 630 (.5996)
    rule = judge(evaluation(630), None, POLICY, task_id="t").rules[1]
    assert rule.threshold == pytest.approx(0.6)
    assert rule.value == pytest.approx(0.5996, abs=5e-5)
    assert verdicts(evaluation(631))["top-1"] is Verdict.PASS
    assert verdicts(evaluation(630))["top-1"] is Verdict.NOT_ENOUGH_EVIDENCE


def test_an_interval_wholly_below_the_floor_fails():
    assert verdicts(evaluation(560))["top-1"] is Verdict.FAIL
    assert judge(evaluation(560), None, POLICY, task_id="t").verdict is Verdict.FAIL


def test_a_constant_answer_never_passes():
    constant = evaluation(
        500, classes=(ClassResult("ant", 500, wilson(500, 500), 0.5), ClassResult("bee", 500, wilson(0, 500), 0.0))
    )
    assert verdicts(constant)["top-1"] is Verdict.FAIL
    assert verdicts(constant)["worst class recall"] is Verdict.FAIL


def test_the_worst_class_is_named_and_a_failing_one_wins_over_an_unknown_one():
    classes = (
        ClassResult("unseen", 0, Interval(0.0, 0.0, 1.0), 0.0),
        ClassResult("lost", 500, wilson(10, 500), 0.1),
        ClassResult("fine", 500, wilson(450, 500), 0.9),
    )
    rule = judge(evaluation(classes=classes), None, POLICY, task_id="t").rules[2]
    assert rule.verdict is Verdict.FAIL
    assert "“lost”" in rule.reason


def test_a_class_without_images_is_not_enough_evidence():
    classes = (*evaluation().classes, ClassResult("unseen", 0, Interval(0.0, 0.0, 1.0), 0.0))
    assert verdicts(evaluation(classes=classes))["worst class recall"] is Verdict.NOT_ENOUGH_EVIDENCE


def test_the_calibration_error_may_reach_its_limit_and_not_pass_it():
    assert verdicts(evaluation(ece=0.15))["ECE"] is Verdict.PASS
    assert verdicts(evaluation(ece=0.1501))["ECE"] is Verdict.FAIL


def test_a_small_evaluation_set_is_not_enough_evidence():
    small = judge(evaluation(images=99), None, POLICY, task_id="t")
    assert small.verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert "label 1 more" in small.reason


@pytest.mark.parametrize(
    "broken",
    [
        {"ece": NAN},
        {"ece": -0.1},
        {"top1": Interval(NAN, NAN, NAN)},
        {"top1": Interval(0.9, NAN, 0.95)},
        {"top1": Interval(0.9, 0.8, 1.7)},
        {"majority_rate": NAN},
        {"classes": ()},
        {"classes": (ClassResult("ant", 500, Interval(NAN, NAN, NAN), NAN),)},
    ],
)
def test_what_is_nan_or_missing_fails_and_its_verdict_still_fits_json(broken):
    verdict = judge(evaluation(**broken), None, POLICY, task_id="t")
    assert verdict.verdict is Verdict.FAIL
    assert from_json(type(verdict), to_json(verdict)) == verdict


def test_an_equal_challenger_is_not_worse_and_one_image_less_is():
    champion = evaluation(800, "model-old")
    assert verdicts(evaluation(800), champion)["champion"] is Verdict.PASS
    assert verdicts(evaluation(799), champion)["champion"] is Verdict.FAIL


@pytest.mark.parametrize(
    "other",
    [{"evaluation_set_id": "evalset-2"}, {"images": 999}, {"top1": Interval(NAN, NAN, NAN)}],
)
def test_a_champion_that_was_measured_otherwise_is_not_enough_evidence(other):
    champion = evaluation(700, "model-old", **other)
    assert verdicts(evaluation(), champion)["champion"] is Verdict.NOT_ENOUGH_EVIDENCE


def test_a_champion_that_could_not_be_evaluated_stays():
    verdict = judge(
        evaluation(), None, POLICY, task_id="t", champion_id="model-old", champion_problem="weights missing"
    )
    assert verdict.verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert verdict.reason == "The champion model-old can't be compared: weights missing. It stays."


def test_an_evaluation_of_another_model_does_not_stand_for_the_champion():
    verdict = verdicts(evaluation(), evaluation(1, "model-weak"), champion_id="model-old")
    assert verdict["champion"] is Verdict.NOT_ENOUGH_EVIDENCE


def test_the_champion_itself_has_nobody_to_beat():
    verdict = judge(evaluation(), evaluation(), POLICY, task_id="t")
    assert verdict.verdict is Verdict.PASS
    assert verdict.rules[-1].reason == "model-new is the champion itself."


def test_a_failed_rule_outweighs_missing_evidence_and_no_rule_is_no_pass():
    passed, failed, unknown = (
        RuleResult("r", 1.0, 1.0, verdict, "") for verdict in (Verdict.PASS, Verdict.FAIL, Verdict.NOT_ENOUGH_EVIDENCE)
    )
    assert overall((passed, unknown, failed)) is Verdict.FAIL
    assert overall((passed, unknown)) is Verdict.NOT_ENOUGH_EVIDENCE
    assert overall(()) is Verdict.NOT_ENOUGH_EVIDENCE


def test_the_decision_is_named_by_its_kind_inputs_and_policy():
    champion = evaluation(700, "model-old")
    first = judge(evaluation(), champion, POLICY, task_id="task-1")
    inputs = gate_inputs(evaluation(), champion, "task-1", "model-old")
    assert first.id == name_of("dec", {"kind": "gate", "inputs": inputs, "policy": gate_policy(POLICY)})
    assert judge(evaluation(), champion, POLICY, task_id="task-1") == first
    stricter = POLICY.model_copy(update={"largest_ece": 0.1})
    assert judge(evaluation(), champion, stricter, task_id="task-1").id != first.id
    assert judge(evaluation(), None, POLICY, task_id="task-1").id != first.id
    other_answers = evaluation(correct_sha256="cd" * 32)
    assert judge(other_answers, champion, POLICY, task_id="task-1").id != first.id

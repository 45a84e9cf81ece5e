"""Each rule at its border, and every way in which evidence can be missing: nothing but evidence passes."""

from dataclasses import fields, replace

import pytest

from flywheel.evaluation.evidence import CostEvidence, GateEvidence, LeakEvidence, RobustnessEvidence, SliceCounts
from flywheel.evaluation.gates import gate_policy, judge, overall
from flywheel.evaluation.spending import Outcome, Use
from flywheel.evaluation.statistics import wilson
from flywheel.identity import canonical_json
from flywheel.records import ClassResult, GateVerdict, Interval, PromotesAs, Verdict, as_dict, from_json, to_json
from tests.flywheel.evaluation.evidence_samples import (
    FIRST,
    NAN,
    POLICY,
    challenger,
    counts,
    evaluation,
    first_model,
    rule_of,
    verdict_on,
)

PASS, FAIL, UNKNOWN = Verdict.PASS, Verdict.FAIL, Verdict.NOT_ENOUGH_EVIDENCE
FLOORS = ["leaks", "serving parity", "evaluation set", "top-1", "worst class recall", "calibration", "champion"]


def test_a_good_first_model_passes_by_its_floors_alone():
    verdict = verdict_on(first_model())
    assert verdict.verdict is PASS
    assert verdict.reason == "All 7 rules passed."
    assert [rule.rule for rule in verdict.rules] == FLOORS
    assert verdict.promotes_as is PromotesAs.FIRST


def test_a_challenger_meets_four_rules_more():
    assert [rule.rule for rule in verdict_on(challenger()).rules] == [
        *FLOORS,
        "slices",
        "robustness",
        "latency",
        "size",
    ]


# the floors


def test_the_top1_floor_is_the_majority_rate_and_a_share_of_the_rest():
    # .5 + .2 × .5 = .6; Wilson's low end of 1,000 images reaches it at 631 (.6007) and not at 630 (.5996)
    rule = rule_of(first_model(challenger=evaluation(630, 1000)), "top-1")
    assert rule.threshold == pytest.approx(0.6)
    assert rule.value == pytest.approx(0.5996, abs=5e-5)
    assert rule.verdict is UNKNOWN
    assert rule_of(first_model(challenger=evaluation(631, 1000)), "top-1").verdict is PASS
    assert rule_of(first_model(challenger=evaluation(560, 1000)), "top-1").verdict is FAIL


def test_a_constant_answer_never_passes():
    classes = (ClassResult("ant", 500, wilson(500, 500), 0.5), ClassResult("bee", 500, wilson(0, 500), 0.0))
    constant = first_model(challenger=evaluation(500, 1000, classes=classes))
    assert rule_of(constant, "top-1").verdict is FAIL
    assert rule_of(constant, "worst class recall").verdict is FAIL


def test_the_worst_class_is_named_and_a_failing_one_wins_over_an_unknown_one():
    classes = (
        ClassResult("unseen", 0, Interval(0.0, 0.0, 1.0), 0.0),
        ClassResult("lost", 500, wilson(10, 500), 0.1),
        ClassResult("fine", 500, wilson(450, 500), 0.9),
    )
    rule = rule_of(first_model(challenger=evaluation(classes=classes)), "worst class recall")
    assert rule.verdict is FAIL
    assert "“lost”" in rule.reason
    unseen = first_model(challenger=evaluation(classes=(classes[0], classes[2])))
    assert rule_of(unseen, "worst class recall").verdict is UNKNOWN


@pytest.mark.parametrize(
    ("ece", "verdict"),
    [
        (Interval(0.1, 0.09, 0.15), PASS),
        (Interval(0.14, 0.13, 0.151), UNKNOWN),
        (Interval(0.2, 0.16, 0.25), FAIL),
        (Interval(NAN, NAN, NAN), FAIL),
        (Interval(-0.1, -0.2, 0.0), FAIL),
        (None, UNKNOWN),
    ],
)
def test_calibration_is_judged_with_its_interval(ece, verdict):
    assert rule_of(first_model(ece=ece), "calibration").verdict is verdict


def test_a_small_evaluation_set_is_not_enough_evidence():
    small = verdict_on(first_model(challenger=evaluation(79, 99)))
    assert small.verdict is UNKNOWN
    assert "label 1 more" in small.reason


# the comparison


def test_an_equal_challenger_is_non_inferior_and_promoted_only_where_the_policy_asks():
    usual, asked = verdict_on(challenger()), verdict_on(challenger(), promote_non_inferior=True)
    assert usual.verdict is UNKNOWN
    assert usual.promotes_as is None
    assert "Non-inferior, and the policy asks for better" in usual.reason
    assert asked.verdict is PASS
    assert asked.promotes_as is PromotesAs.NON_INFERIOR


def test_a_better_challenger_is_superior_at_the_gates_own_level():
    # 1,600 images differ; at the first comparison's level of .0045 the exact test asks for 853 of them
    assert rule_of(challenger(852, 748), "champion").verdict is UNKNOWN
    better = verdict_on(challenger(853, 747))
    assert better.verdict is PASS
    assert better.promotes_as is PromotesAs.SUPERIOR


def test_a_worse_challenger_is_inferior():
    rule = rule_of(challenger(700, 900), "champion")
    assert rule.verdict is FAIL
    assert rule.reason.startswith("Inferior")
    assert rule.value == pytest.approx(-0.025)


def test_a_superior_challenger_must_not_be_worse_than_the_anchor():
    evidence = challenger(900, 700)
    against_anchor = replace(evidence.champion, model_id="model-older", counts=counts(700, 860))
    evidence = replace(evidence, anchor_id="model-older", anchor=against_anchor)
    assert rule_of(evidence, "champion").verdict is UNKNOWN
    assert verdict_on(evidence, promote_non_inferior=True).promotes_as is None


def test_non_inferiority_is_measured_against_the_anchor_so_losses_do_not_add_up():
    evidence = challenger(800, 820)  # a quarter of a point below the champion
    far = replace(evidence.champion, model_id="model-older", counts=counts(750, 900))  # two points below the anchor
    evidence = replace(evidence, anchor_id="model-older", anchor=far)
    assert verdict_on(evidence, promote_non_inferior=True).promotes_as is None
    near = replace(evidence, anchor_id="model-old", anchor=evidence.champion)
    assert verdict_on(near, promote_non_inferior=True).promotes_as is PromotesAs.NON_INFERIOR


def test_a_spent_budget_decides_nothing_and_says_what_restores_it():
    uses = (FIRST, *[Use(compared=True, outcome=Outcome.STAYS)] * 10)
    rule = rule_of(challenger(1500, 100, uses=uses), "champion")
    assert rule.verdict is UNKNOWN
    assert "all 10 planned comparisons" in rule.reason
    assert "new labelled images on the frozen side restore it" in rule.reason


def test_the_champion_itself_has_nobody_to_beat():
    evidence = first_model(champion_id="model-new")
    assert verdict_on(evidence).verdict is PASS
    assert verdict_on(evidence).promotes_as is None


# slices


def test_a_class_that_loses_ten_points_fails_though_the_whole_got_better():
    slices = (SliceCounts("class cat", counts(50, 150, 1000)), SliceCounts("class dog", counts(150, 50, 1000)))
    verdict = verdict_on(challenger(900, 700, slices=slices))
    rule = next(rule for rule in verdict.rules if rule.rule == "slices")
    assert verdict.verdict is FAIL
    assert "“class cat” got worse" in rule.reason
    assert [part.verdict for part in rule.parts] == [FAIL, PASS]


def test_a_slice_of_five_images_has_not_enough_data_and_holds_nothing_up():
    slices = (SliceCounts("class newt", counts(0, 1, 5)), SliceCounts("class dog", counts(100, 100, 1000)))
    rule = rule_of(challenger(slices=slices), "slices")
    assert rule.verdict is PASS
    assert rule.parts[0].verdict is UNKNOWN
    assert "not enough data" in rule.parts[0].reason
    assert "1 more are too small to tell" in rule.reason


def test_a_large_slice_whose_interval_holds_the_drop_that_matters_is_not_enough_evidence():
    slices = (SliceCounts("class cat", counts(15, 25, 150)),)
    rule = rule_of(challenger(slices=slices), "slices")
    assert rule.verdict is UNKNOWN
    assert "is not excluded" in rule.reason


def test_a_slice_says_the_smallest_drop_it_could_have_shown():
    slices = (SliceCounts("class cat", counts(100, 100, 1000)),)
    # 2 points + (1.645 + .842) × √(.2 / 1,000)
    assert "the smallest drop it could have shown is 5.5 points" in rule_of(challenger(slices=slices), "slices").reason


def test_slices_that_are_all_too_small_are_not_enough_evidence():
    assert rule_of(challenger(slices=(SliceCounts("class cat", counts(5, 5, 99)),)), "slices").verdict is UNKNOWN
    assert rule_of(challenger(slices=(SliceCounts("class cat", counts(0, 0, 0, 0)),)), "slices").verdict is UNKNOWN


# other regressions


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (Interval(-0.02, -0.05, 0.01), PASS),
        (Interval(-0.04, -0.06, -0.02), UNKNOWN),
        (Interval(-0.08, -0.1, -0.06), FAIL),
        (Interval(NAN, NAN, NAN), FAIL),
    ],
)
def test_robustness_may_not_be_lost(difference, verdict):
    half = Interval(0.5, 0.4, 0.6)
    assert rule_of(
        challenger(robustness=RobustnessEvidence(1000, 21, half, half, difference)), "robustness"
    ).verdict is (verdict)


@pytest.mark.parametrize(
    ("latency", "verdict"),
    [
        (Interval(1.9, 1.8, 2.0), PASS),
        (Interval(1.9, 1.8, 2.1), UNKNOWN),
        (Interval(2.5, 2.2, 2.9), FAIL),
        (Interval(NAN, 1.0, 2.0), FAIL),
        (Interval(0.0, 0.0, 0.0), FAIL),
    ],
)
def test_latency_is_a_ratio_to_the_champion(latency, verdict):
    assert rule_of(challenger(cost=CostEvidence(latency, 1.0, 2.0)), "latency").verdict is verdict


@pytest.mark.parametrize(("ratio", "verdict"), [(2.0, PASS), (2.01, FAIL), (NAN, FAIL), (0.0, FAIL)])
def test_size_is_a_ratio_to_the_champion(ratio, verdict):
    assert rule_of(challenger(cost=CostEvidence(Interval(1.0, 0.9, 1.1), ratio, 2.0)), "size").verdict is verdict


# integrity


def test_one_leaked_image_is_refused_and_named():
    leaks = LeakEvidence(8000, 0, 1, ("frozen/cat/1.jpg is near train/cat/7.jpg of model-old",))
    verdict = verdict_on(challenger(900, 700, leaks=leaks))
    assert verdict.verdict is FAIL
    assert verdict.reason == (
        "frozen/cat/1.jpg is near train/cat/7.jpg of model-old. "
        "The comparison means nothing; take them out and train again."
    )
    assert verdict.promotes_as is None
    unnamed = verdict_on(challenger(900, 700, leaks=LeakEvidence(8000, 0, 1)))
    assert "A model learned from 1 of 8,000 evaluation images, or near copies of them." in unnamed.reason


def test_a_served_answer_that_differs_is_refused():
    parity = replace(first_model().parity, failed=("exif 6: logits 0.4 apart",), largest=0.4)
    rule = rule_of(first_model(parity=parity), "serving parity")
    assert rule.verdict is FAIL
    assert "exif 6" in rule.reason
    for nothing in ({"probes": 0}, {"largest": None}, {"largest": NAN}):
        assert rule_of(first_model(parity=replace(first_model().parity, **nothing)), "serving parity").verdict is FAIL


# what is missing


OPTIONAL = ("champion", "anchor", "uses", "ece", "robustness", "cost", "leaks", "parity", "slices")


@pytest.mark.parametrize("part", OPTIONAL)
def test_each_missing_part_holds_the_promotion_up_and_says_why(part):
    empty = () if part == "slices" else None
    evidence = challenger(900, 700, problems={part: "the disk is on fire"}, **{part: empty})
    verdict = verdict_on(evidence)
    assert verdict.verdict is UNKNOWN
    assert "the disk is on fire" in verdict.reason
    assert verdict.promotes_as is None


def test_a_cause_that_several_rules_share_is_told_once():
    fire, smoke = "/disk: it is on fire", "What model-old learned from can't be read: /disk: it is on fire"
    missing = {"problems": {"leaks": smoke, "robustness": fire, "cost": fire}, "slices": ()}
    verdict = verdict_on(challenger(900, 700, leaks=None, robustness=None, cost=None, **missing))
    assert verdict.reason == (
        "Leaks, robustness, latency and size can't be judged: /disk: it is on fire. "
        "No slice could be compared: it was not measured."
    )
    assert all("/disk" in rule.reason for rule in verdict.rules if rule.rule in ("leaks", "size"))


def test_every_optional_part_is_in_the_test_above():
    without_default = {"task_id", "challenger", "champion_id", "anchor_id", "problems", "set_aside", "drifted"}
    assert {field.name for field in fields(GateEvidence)} - without_default == set(OPTIONAL)


@pytest.mark.parametrize(
    "broken",
    [
        {"top1": Interval(NAN, NAN, NAN)},
        {"top1": Interval(0.9, NAN, 0.95)},
        {"top1": Interval(0.9, 0.8, 1.7)},
        {"majority_rate": NAN},
        {"classes": ()},
        {"classes": (ClassResult("ant", 500, Interval(NAN, NAN, NAN), NAN),)},
    ],
)
def test_what_is_nan_or_missing_fails_and_its_verdict_still_fits_json(broken):
    verdict = verdict_on(first_model(challenger=evaluation(**broken)))
    assert verdict.verdict is FAIL
    assert from_json(GateVerdict, to_json(verdict)) == verdict


def test_models_that_were_compared_on_other_images_than_the_anchor_fail():
    evidence = challenger()
    other = replace(evidence.anchor, model_id="model-older", counts=counts(10, 10, 100))
    assert rule_of(replace(evidence, anchor_id="model-older", anchor=other), "champion").verdict is FAIL
    empty = replace(evidence.champion, counts=counts(0, 0, 0, 0))
    assert rule_of(replace(evidence, champion=empty, anchor=empty), "champion").verdict is FAIL


def test_no_rules_is_not_a_pass():
    assert overall(()) is UNKNOWN


# what is recorded


def test_recorded_evidence_is_judged_to_the_same_bytes_again():
    evidence = challenger(900, 700)
    again = from_json(GateEvidence, canonical_json(as_dict(evidence)))
    assert again == evidence
    assert to_json(verdict_on(again)) == to_json(verdict_on(evidence))


def test_the_decision_is_named_by_inputs_and_policy():
    evidence, inputs = challenger(), {"model_id": "model-new", "champion_id": "model-old"}
    base = judge(evidence, POLICY, inputs).id
    assert judge(evidence, POLICY, dict(reversed(inputs.items()))).id == base
    assert judge(evidence, POLICY.model_copy(update={"margin": 0.03}), inputs).id != base
    assert judge(evidence, POLICY, {**inputs, "champion_id": "model-x"}).id != base
    assert gate_policy(POLICY)["rules_version"] == 4

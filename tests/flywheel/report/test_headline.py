"""Two sentences for everyone: each verdict has its own, and every rule that can hold a model up has words."""

import re
from dataclasses import replace

import pytest

from flywheel.evaluation.evidence import LeakEvidence, SliceCounts
from flywheel.evaluation.spending import Outcome, Use
from flywheel.policies import GatePolicy
from flywheel.records import Interval, RuleResult, Verdict
from flywheel.report.headline import NUMBERS, SAID, headline
from tests.flywheel.evaluation.evidence_samples import (
    challenger,
    counts,
    evaluation,
    first_model,
    verdict_on,
)


def told(evidence, **policy):
    return headline(verdict_on(evidence, **policy), evidence, GatePolicy(**policy))


def test_each_way_to_be_let_through_says_what_it_is():
    decided, why = told(first_model())
    assert "first champion" in decided
    assert why == (
        "It is right on 80.0% of 8,000 images that it never learned from, where always giving the commonest answer is "
        "right on 50.0%."
    )
    decided, why = told(challenger(1000, 600))
    assert decided.startswith("The new model may become champion: it is better")
    assert "1,000 were right with the new model alone and 600 with the champion alone: so large a lead" in why
    decided, why = told(challenger(800, 800), promote_non_inferior=True)
    assert "isn't shown to be better" in decided
    assert "a loss of more than the policy allows" in why
    itself = challenger(champion_id="model-new", champion=None, anchor=None)
    assert told(itself)[0] == "This model is the champion already, and meets the policy's floors."


@pytest.mark.parametrize(
    ("evidence", "decided", "why"),
    [
        (challenger(850, 800), "is not enough on 1 of 11 rules.", "so small a lead may be luck."),
        (challenger(800, 800), "is not enough on 1 of 11 rules.", "that is no lead."),
        (challenger(600, 1000), "fails 1 of 11 rules.", "1,000 with the champion alone: it is worse."),
        (challenger(uses=(Use(True, Outcome.STAYS),) * 10), "on 1 of", "new labelled images are needed."),
        (challenger(uses=None), "on 1 of", "Nobody knows how often these images were asked before"),
        (challenger(champion=None), "on 1 of", "could not be compared."),
        (challenger(1000, 600, leaks=LeakEvidence(8000, 2, 0)), "fails 1 of", "what it scores on them means nothing."),
        (
            challenger(1000, 600, slices=(SliceCounts("class cat", counts(0, 300, 1000, 0.5)),)),
            "fails 1 of",
            "“class cat”, it is clearly worse than the champion: 30.0 points of 100 are lost.",
        ),
    ],
    ids=["ahead", "level", "worse", "spent", "unknown uses", "no champion", "leak", "slice"],
)
def test_what_held_it_up_is_said(evidence, decided, why):
    found = told(evidence)
    assert found[0].startswith("The champion stays: the new model ")
    assert decided in found[0]
    assert why in found[1]


def test_a_first_model_that_fails_leaves_no_champion_to_stay():
    found = told(first_model(challenger=evaluation(4100)))
    assert found[0] == "The model may not become champion: it fails 1 of 7 rules."
    assert found[1] == (
        "It gives the right answer too seldom: on 51.2% of the images, where the policy asks for 60.0%."
    )
    both = told(first_model(challenger=evaluation(4100), ece=None))
    assert both[0].endswith("it fails 1 of 7 rules, and the evidence is not enough on 1 more.")


def test_a_fail_outweighs_a_rule_that_could_not_be_asked():
    found = told(challenger(600, 1000, leaks=None))
    assert "it is worse" in found[1]


def test_every_rule_has_words_for_each_way_it_can_hold_a_model_up():
    rules = {rule.rule for rule in verdict_on(challenger()).rules}
    spoken = set(SAID) | {(rule, verdict) for rule in ("champion",) for verdict in Verdict}
    missing = {(rule, verdict) for rule in rules for verdict in (Verdict.FAIL, Verdict.NOT_ENOUGH_EVIDENCE)} - spoken
    assert missing == {("evaluation set", Verdict.FAIL)}  # too few images are never a fail
    assert {rule for rule, _ in SAID} | set(NUMBERS) == rules


def test_a_rule_without_words_gives_its_own_reason():
    evidence = challenger(1000, 600)
    strange = RuleResult("fairness", None, None, Verdict.FAIL, "Unfair.")
    verdict = replace(verdict_on(evidence), verdict=Verdict.FAIL, rules=(strange,))
    assert headline(verdict, evidence, GatePolicy()) == (
        "The champion stays: the new model fails 1 of 1 rules.",
        "Unfair.",
    )


def test_it_is_two_sentences():
    for evidence in (first_model(), challenger(), challenger(1000, 600), challenger(600, 1000), challenger(uses=None)):
        for sentence in told(evidence):
            assert re.fullmatch(r"[A-Z“][^.]*(\d\.\d[^.]*)*\.", sentence), sentence


def test_what_is_no_number_is_not_spoken_of():
    nan = float("nan")
    found = told(first_model(challenger=evaluation(top1=Interval(nan, nan, nan))))
    assert "nan" not in " ".join(found)
    assert found[1] == "It gives the right answer too seldom."

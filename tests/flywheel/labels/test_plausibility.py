"""Honest labels are believed, however wrong the model is, where that was expected; and lies are named."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from flywheel.labels.plausibility import (
    AGREEMENT,
    ONE_CLASS,
    PAIR,
    SMALL,
    conflicting,
    expected,
    findings,
    last_of_each,
)
from flywheel.ledger.labelled import LabelledAnswer
from flywheel.policies import LabelPolicy

CLASSES = ("cat", "dog", "ship", "frog")
POLICY = LabelPolicy()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CONFIDENCE = 0.8


def known(accuracy: float | None = 0.75):
    """Of a model that is right on eight of ten reference images of each class, and errs alike everywhere."""
    predicted = np.repeat(np.arange(4), 300)
    labels = np.where(np.arange(1200) % 10 < 8, predicted, (predicted + 1 + np.arange(1200) % 3) % 4)
    return expected(accuracy, CONFIDENCE, predicted, labels, 4)


def answers(labels, predicted, source="person", first=0, at=NOON, client="") -> list[LabelledAnswer]:
    found = []
    for place, (label, number) in enumerate(zip(labels, predicted, strict=True)):
        probabilities = np.full(4, (1 - CONFIDENCE) / 3, np.float32)
        probabilities[number] = CONFIDENCE
        found.append(
            LabelledAnswer(
                position=first + place,
                prediction_id=f"{first + place:036}",
                label=CLASSES[label],
                source=source,
                client=client,
                at=at,
                asked="",
                predicted=int(number),
                image_id=f"image {first + place}",
                probabilities=probabilities,
            )
        )
    return found


def honest(count: int, accuracy: float, seed: int = 0):
    """Labels and the predictions for them, by a model of this accuracy."""
    random = np.random.default_rng(seed)
    labels = random.integers(4, size=count)
    wrong = random.random(count) >= accuracy
    return labels, np.where(wrong, (labels + random.integers(1, 4, size=count)) % 4, labels)


def rules(batch, accuracy: float | None = 0.75) -> set[str]:
    return {each.rule for each in findings(batch, CLASSES, known(accuracy), POLICY)}


def test_honest_labels_are_believed():
    assert rules(answers(*honest(400, 0.78))) == set()


def test_honest_labels_under_drift_disagree_and_are_believed_where_that_was_estimated():
    drifted = answers(*honest(400, 0.4))
    assert rules(drifted, accuracy=0.35) == set()
    assert AGREEMENT in rules(drifted, accuracy=0.75)


def test_one_class_for_everything_is_named_with_its_counts():
    _, predicted = honest(200, 0.78)
    found = {each.rule: each for each in findings(answers([2] * 200, predicted), CLASSES, known(), POLICY)}
    assert ONE_CLASS in found
    assert "200 of 200 labels are “ship”" in found[ONE_CLASS].reason
    assert found[ONE_CLASS].positions == frozenset(range(200))


def test_an_honest_batch_of_one_class_is_believed_where_the_model_sees_it_too():
    """Ships alone: all that the model takes for cats are ships, which lies would be among images of all classes."""
    labels = np.full(300, 2)
    predicted = np.where(np.arange(300) % 10 < 8, 2, np.arange(300) % 3 + (np.arange(300) % 3 == 2))
    assert rules(answers(labels, predicted)) == set()


def test_a_class_called_another_is_named():
    labels, predicted = honest(400, 0.78)
    lies = np.where(labels == 0, 3, labels)
    found = {each.rule: each for each in findings(answers(lies, predicted), CLASSES, known(), POLICY)}
    assert "“cat” are labelled “frog”" in found[PAIR].reason


def test_random_labels_in_a_part_over_days_are_seen_in_all_of_them_together():
    labels, predicted = honest(600, 0.78)
    random = np.random.default_rng(1)
    lies = np.where(random.random(600) < 0.4, random.integers(4, size=600), labels)
    batch = [
        each
        for day in range(6)
        for each in answers(lies[day::6], predicted[day::6], first=1000 * day, at=NOON + timedelta(days=day))
    ]
    found = [each for each in findings(batch, CLASSES, known(), POLICY) if each.rule == AGREEMENT]
    assert max(len(each.positions) for each in found) == 600


def test_one_bad_day_of_a_good_source_is_seen():
    labels, predicted = honest(1000, 0.78)
    good = answers(labels, predicted)
    bad = answers([1] * 40, honest(40, 0.78, seed=2)[1], first=5000, at=NOON + timedelta(days=1))
    found = findings(good + bad, CLASSES, known(), POLICY)
    assert {frozenset(range(5000, 5040))} == {each.positions for each in found}


def test_who_lies_takes_nobody_else_along():
    lies = answers([2] * 100, honest(100, 0.78, seed=3)[1], source="liar", first=1000)
    found = findings(answers(*honest(300, 0.78)) + lies, CLASSES, known(), POLICY)
    assert {each.who for each in found} == {"liar"}
    assert frozenset().union(*(each.positions for each in found)) == frozenset(range(1000, 1100))


def test_two_keys_of_one_name_are_two_sources():
    lies = answers([2] * 100, honest(100, 0.78, seed=3)[1], first=1000, client="mallory")
    found = findings(answers(*honest(300, 0.78), client="alice") + lies, CLASSES, known(), POLICY)
    assert {each.who for each in found} == {"person (mallory)"}


def test_many_small_sources_are_judged_together():
    _, predicted = honest(100, 0.78)
    batch = answers([2] * 100, predicted)
    split = [LabelledAnswer(**{**vars(each), "source": f"sock {each.position // 5}"}) for each in batch]
    assert {each.who for each in findings(split, CLASSES, known(), POLICY)} == {SMALL}
    assert findings(split[: POLICY.fewest_judged - 1], CLASSES, known(), POLICY) == []


def test_images_that_the_model_was_unsure_of_may_disagree():
    """What is asked for is what the model does not know: labels that contradict it there say nothing against them."""
    labels, predicted = honest(200, 0.42)
    unsure = np.full(4, 0.2, np.float32)
    batch = []
    for each in answers(labels, predicted):
        probabilities = unsure.copy()
        probabilities[each.predicted] = 0.4
        batch.append(LabelledAnswer(**{**vars(each), "probabilities": probabilities}))
    assert rules(batch) == set()
    assert AGREEMENT in rules(answers(labels, predicted))


def test_nothing_is_known_yet_and_half_of_the_confidence_is_demanded():
    assert rules(answers(*honest(400, 0.5)), accuracy=None) == set()
    assert AGREEMENT in rules(answers(*honest(400, 0.1)), accuracy=None)


@pytest.mark.parametrize("accuracy", [0.78, 0.45])
def test_honest_sources_are_condemned_as_rarely_as_the_policy_says(accuracy):
    """The estimate is just right: nothing is left to spare."""
    lives = 300
    condemned = sum(
        bool(findings(answers(*honest(200, accuracy, seed)), CLASSES, known(accuracy), POLICY)) for seed in range(lives)
    )
    assert condemned <= 3 + 3 * POLICY.implausible_level * lives


def test_contradictions_and_second_thoughts():
    first, again, other, alone = answers([0, 1, 1, 2], [0, 0, 0, 2])
    again = LabelledAnswer(**{**vars(again), "prediction_id": first.prediction_id, "image_id": first.image_id})
    other = LabelledAnswer(**{**vars(other), "image_id": first.image_id, "source": "another"})
    assert last_of_each([first, again, alone]) == [again, alone]
    assert conflicting([first, alone]) == set()
    assert conflicting([first, other, alone]) == {first.position, other.position}
    assert conflicting(last_of_each([first, again, other, alone])) == set()

"""The attackers lie as they are said to, and shares are counted by what was set aside."""

import numpy as np

from benchmarks.label_poisoning import ATTACKS, LIES, NOISE, Tried, claim_of, one_class, one_pair, some_random

LABELS = np.repeat(np.arange(10), 30)


def test_one_class_is_one():
    assert len(np.unique(one_class(LABELS, 10, np.random.default_rng(0)))) == 1


def test_a_tenth_of_the_labels_goes_from_one_class_to_one_other():
    for seed in range(20):
        found = one_pair(LABELS, 10, np.random.default_rng(seed))
        changed = found != LABELS
        assert changed.sum() == round(LIES * len(LABELS))
        assert len(np.unique(LABELS[changed])) == len(np.unique(found[changed])) == 1
    few = one_pair(np.repeat([0, 1], [297, 3]), 10, np.random.default_rng(0))
    assert (few != np.repeat([0, 1], [297, 3])).sum() in (3, 30), "no more than there are of the class"


def test_random_labels_hit_the_right_class_now_and_then():
    changed = np.mean([(some_random(LABELS, 10, np.random.default_rng(seed)) != LABELS).mean() for seed in range(50)])
    assert abs(changed - NOISE * 0.9) < 0.01


def batches(who: str, condemned: int, of: int = 1000, labels: int = 300) -> list[Tried]:
    return [Tried(who, "clean", "clean", labels, place < condemned, frozenset()) for place in range(of)]


def test_the_claim_is_computed():
    caught = [each for name in ATTACKS for each in batches(name, 900)] + [
        Tried("honest", "drift 3", "fog 3", 300, False, frozenset())
    ]
    assert claim_of(batches("honest", 1) + caught).holds
    assert not claim_of(batches("honest", 11) + caught).holds, "the upper end of the interval counts"
    assert not claim_of(batches("honest", 1) + caught + batches("one class", 0)).holds
    assert claim_of(batches("honest", 1) + caught + batches("one class", 0, labels=30)).holds
    figures = claim_of(batches("honest", 1) + caught).figures
    assert figures["shares"]["clean | 300 | honest"] == 0.001
    assert figures["shares"]["clean | 300 | one class"] == 0.9

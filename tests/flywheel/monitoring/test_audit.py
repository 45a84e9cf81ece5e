"""Labels of images drawn at random: what they tell is right however often they are looked at, and told soon."""

import numpy as np
import pytest

from flywheel.monitoring.audit import LEVEL, Finding, audit
from flywheel.records import Interval

CERTAIN = Interval(value=0.9, low=0.9, high=0.9)
LINE = 0.05


def finding_of(accuracy: float, seed: int, most: int) -> tuple[Finding, int]:
    """Asked after every label, until it is told."""
    right = np.cumsum(np.random.default_rng(seed).random(most) < accuracy)
    for labels in range(1, most + 1):
        found = audit(int(right[labels - 1]), labels, CERTAIN, LINE)
        if found.finding is not Finding.OPEN:
            return found.finding, labels
    return Finding.OPEN, most


def test_the_evidence_is_the_mixtures_by_hand():
    """One wrong answer at a line of .5: the mean of (1 - q) over q in 0...5 is .75, over .5."""
    found = audit(0, 1, Interval(value=0.6, low=0.6, high=0.6), 0.1)
    assert (found.harmful, found.harmless) == (pytest.approx(1.5), pytest.approx(0.5))
    assert audit(0, 0, CERTAIN, LINE).finding is Finding.OPEN


def test_at_the_line_neither_is_told_more_often_than_its_level():
    told = [finding_of(0.85, seed, 300)[0] for seed in range(200)]
    for finding in (Finding.HARMFUL, Finding.HARMLESS):
        assert np.mean([each is finding for each in told]) <= LEVEL + 0.03


def test_a_large_loss_is_told_by_few_labels_and_no_loss_by_some():
    large = [finding_of(0.6, seed, 400) for seed in range(30)]
    assert {finding for finding, _ in large} == {Finding.HARMFUL}
    assert np.median([labels for _, labels in large]) < 50
    none = [finding_of(0.92, seed, 600) for seed in range(30)]
    assert np.mean([finding is Finding.HARMLESS for finding, _ in none]) > 0.9


def test_an_unsure_reference_needs_more_labels():
    unsure = Interval(value=0.9, low=0.8, high=0.96)
    for right, finding in ((30, Finding.HARMFUL), (50, Finding.HARMLESS)):
        assert audit(right, 50, CERTAIN, 0.2).finding in (finding, Finding.OPEN)
        assert audit(right, 50, unsure, 0.2).harmful <= audit(right, 50, CERTAIN, 0.2).harmful
        assert audit(right, 50, unsure, 0.2).harmless <= audit(right, 50, CERTAIN, 0.2).harmless


@pytest.mark.parametrize("right", [0, 5_000, 10_000])
@pytest.mark.parametrize("line", [0.001, 0.95])
def test_many_labels_and_lines_beyond_the_possible_are_told_in_finite_numbers(right, line):
    found = audit(right, 10_000, CERTAIN, line)
    assert np.isfinite([found.harmful, found.harmless]).all()


def test_more_right_than_labels_is_refused():
    with pytest.raises(ValueError, match="3 right of 2 labels"):
        audit(3, 2, CERTAIN, LINE)

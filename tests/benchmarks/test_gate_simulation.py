"""The simulated pairs: drawn as they are said to be, and judged by the gate's rule whatever way they are counted."""

from collections import Counter

import numpy as np
import pytest

from benchmarks.gate_simulation import LEVEL, Pair, generator, peers_promote, promotes_as, promotions, rate
from flywheel.evaluation.evidence import PairedCounts
from flywheel.records import PromotesAs

WITHIN = LEVEL.model_copy(update={"promote_non_inferior": True})


def test_a_pair_differs_and_gains_as_it_says():
    drawn = Pair(1000, 0.2, 0.04).draw(4000, generator("a pair")) / 1000
    assert drawn.sum(axis=1).mean() == pytest.approx(0.2, abs=0.002)
    assert (drawn[:, 0] - drawn[:, 1]).mean() == pytest.approx(0.04, abs=0.002)


def test_draws_that_are_equal_are_judged_once_and_counted_each():
    pair = Pair(1000, 0.1, 0.01)
    drawn = pair.draw(300, generator("each"))
    each = [pair.counts(won, lost) for won, lost in drawn.tolist()]
    assert promotions(pair, drawn, WITHIN) == Counter(
        promotes_as(counts, counts, (), WITHIN, same=True) for counts in each
    )


@pytest.mark.parametrize(
    ("won", "lost", "promoted"),
    [(90, 50, PromotesAs.SUPERIOR), (52, 50, PromotesAs.NON_INFERIOR), (40, 80, None)],
)
def test_how_agreeing_images_fall_into_right_and_wrong_changes_no_promotion(won, lost, promoted):
    agreeing = 2000 - won - lost
    for both in (0, agreeing // 3, agreeing):
        counts = PairedCounts(both, won, lost, agreeing - both)
        assert promotes_as(counts, counts, (), WITHIN, same=True) is promoted


def test_the_level_is_whole_at_the_first_comparison():
    """16 of 21 has p = .0133, 15 of 21 p = .0392, 14 of 21 p = .0946 (McNemar, exact)."""
    found = [promotions(Pair(1000, 0.021, 0), np.array([[won, 21 - won]]), LEVEL) for won in (16, 15, 14)]
    assert [next(iter(each)) for each in found] == [PromotesAs.SUPERIOR, PromotesAs.SUPERIOR, None]


def test_the_rule_of_most_programs_promotes_at_a_draw():
    assert peers_promote(np.array([[3, 3], [4, 3], [2, 3]])) == 2


def test_generators_are_the_same_again_and_differ_by_name():
    assert generator("a", 1).random() == generator("a", 1).random() != generator("a", 2).random()


def test_a_rate_has_its_interval():
    """Wilson's for 5 of 100."""
    assert rate(5, 100) == {"value": 0.05, "low": 0.02154, "high": 0.11175}

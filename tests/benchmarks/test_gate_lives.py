"""The lives on one frozen set: their truth, their bookkeeping, and what each decider remembers."""

import numpy as np
import pytest

from benchmarks.gate_lives import (
    ACCURACY,
    MARGIN,
    Decider,
    Life,
    as_good,
    creeping,
    drift,
    lives_with_a_wrong_promotion,
    on_luck,
    worse_by_the_margin,
)
from benchmarks.gate_simulation import LEVEL, generator
from flywheel.evaluation.spending import Outcome
from flywheel.policies import GatePolicy
from flywheel.records import PromotesAs

WITHIN = GatePolicy(promote_non_inferior=True)
GATE = Decider(WITHIN)


def begin(decider: Decider = GATE, images: int = 8000) -> tuple[Life, np.random.Generator]:
    random = generator("a life")
    return Life.begin(decider, ACCURACY, images, random), random


def test_a_retrained_model_has_its_true_accuracy_and_disagreement():
    life, random = begin(images=4_000_000)
    joint = life._retrain(ACCURACY + 0.01, 0.1, random)
    assert joint.sum() == 4_000_000
    assert joint[1].sum() / 4e6 == pytest.approx(ACCURACY + 0.01, abs=0.001)
    assert (joint[1, 0].sum() + joint[0, 1].sum()) / 4e6 == pytest.approx(0.1, abs=0.001)


def test_a_challenger_inherits_most_of_the_champions_luck():
    life, random = begin()
    life.table = np.diag([1400, 6600])  # right on 200 images more than its accuracy of .8 would make it
    luck = np.mean([life._retrain(ACCURACY, 0.1, random)[1].sum() - 6400 for _ in range(400)])
    assert luck == pytest.approx(200 * (1 - 0.05 / 0.2 - 0.05 / 0.8), abs=6)


def test_a_better_model_becomes_champion_and_anchor():
    life, random = begin()
    assert life.meet(ACCURACY + 0.04, 0.1, random) is PromotesAs.SUPERIOR
    assert life.champion == life.anchor == ACCURACY + 0.04
    assert (life.same, life.wrong, life.promotions) == (True, 0, 1)
    assert np.count_nonzero(life.table - np.diag(np.diag(life.table))) == 0


def test_a_non_inferior_one_becomes_champion_only():
    life, random = begin()
    assert life.meet(ACCURACY, 0.02, random) is PromotesAs.NON_INFERIOR
    assert (life.champion, life.anchor, life.same, life.wrong) == (ACCURACY, ACCURACY, False, 0)
    assert life.table.sum() == 8000
    assert [use.outcome for use in life.uses] == [Outcome.SUPERIOR, Outcome.NON_INFERIOR]


def test_after_the_plan_nothing_is_promoted_or_remembered():
    life, random = begin(Decider(GatePolicy(planned_gates=2)))
    for _ in range(2):
        life.meet(ACCURACY, 0.1, random)
    assert life.meet(ACCURACY + 0.1, 0.15, random) is None
    assert len(life.uses) == 3


def test_without_spending_every_gate_is_the_first():
    life, random = begin(Decider(LEVEL, spends=False))
    for _ in range(5):
        assert life.meet(life.champion + 0.03, 0.1, random) is PromotesAs.SUPERIOR


def test_wrong_promotions_are_counted_as_the_policy_calls_them():
    life, random = begin(Decider(None))  # promotes whatever isn't below
    joint = life._retrain(ACCURACY, 0.1, random)
    for accuracy, promoted, wrong in [
        (ACCURACY, PromotesAs.SUPERIOR, 1),
        (ACCURACY, PromotesAs.NON_INFERIOR, 0),
        (ACCURACY + 0.001, PromotesAs.SUPERIOR, 0),
        (ACCURACY - MARGIN + 0.001, PromotesAs.NON_INFERIOR, 0),
        (ACCURACY - MARGIN, PromotesAs.NON_INFERIOR, 1),
    ]:
        fresh = Life(Decider(None), ACCURACY, ACCURACY, life.table)
        fresh._promote(promoted, accuracy, joint)
        assert fresh.wrong == wrong, (accuracy, promoted)


def test_who_comes_next():
    life, random = begin()
    assert as_good(life, random) == ACCURACY
    assert worse_by_the_margin(life, random) == pytest.approx(ACCURACY - MARGIN)
    assert on_luck(life, random) == pytest.approx(ACCURACY - MARGIN / 2)
    life.champion, life.same = ACCURACY - MARGIN / 2, False
    assert on_luck(life, random) == pytest.approx(ACCURACY - MARGIN)


def test_the_anchor_ends_the_creep():
    without = Decider(LEVEL.model_copy(update={"promote_non_inferior": True}), spends=False, anchored=False)
    assert drift(creeping, without, 3, 20).accuracy[:, -1].max() < -0.08
    anchored = drift(creeping, Decider(GatePolicy(planned_gates=20, promote_non_inferior=True)), 10, 20)
    assert anchored.accuracy[:, -1].min() > -MARGIN
    assert anchored.promotions > 0


def test_lives_go_wrong_about_as_often_as_ten_gates_at_a_level_say():
    """Equal models at .05 each: 1 - .95^10 = .40, with a size of .047 .38."""
    wrong = lives_with_a_wrong_promotion(as_good, Decider(LEVEL, spends=False), 300, 10)
    assert 0.28 < wrong / 300 < 0.48

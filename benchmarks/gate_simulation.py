"""Pairs and chains of models whose truth is known, judged by the gate's own rules.

A model is its true accuracy and which images of a frozen set it gets right. A challenger is the champion with some of
its answers drawn again: it inherits the champion's luck on these very images, as a retrained model does, and that luck
is what repeated gates on one set can be fooled by.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flywheel.evaluation.evidence import Comparison, GateEvidence, PairedCounts
from flywheel.evaluation.rules.comparison import champion_rule
from flywheel.evaluation.spending import Outcome, Use, next_comparison
from flywheel.evaluation.statistics import wilson
from flywheel.policies import GatePolicy
from flywheel.records import Evaluation, Interval, PromotesAs

Right = NDArray[np.bool_]
FIRST = Use(compared=False, outcome=Outcome.SUPERIOR)
EVALUATION = Evaluation(
    "eval-new", "reports", "model-new", "ds", "evalset", "frozen", 1, Interval(0, 0, 0), 0.1, (), (), 0.0, 0.0, 1.0
)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Model:
    """What only a simulation knows of a model."""

    name: str
    accuracy: float  # the truth
    right: Right  # bool[n], on the frozen set


def counts_of(challenger: Right, other: Right) -> PairedCounts:
    won, lost = int((challenger & ~other).sum()), int((~challenger & other).sum())
    both = int((challenger & other).sum())
    return PairedCounts(both, won, lost, len(other) - both - won - lost)


def draw_model(name: str, accuracy: float, images: int, random: np.random.Generator) -> Model:
    return Model(name, accuracy, random.random(images) < accuracy)


def retrain(name: str, parent: Model, gain: float, disagreement: float, random: np.random.Generator) -> Model:
    """A model of the parent's true accuracy plus the gain, that differs from it on such a share of all images."""
    lost = (disagreement - gain) / 2 / parent.accuracy
    won = (disagreement + gain) / 2 / (1 - parent.accuracy)
    flips = random.random(len(parent.right)) < np.where(parent.right, lost, won)
    return Model(name, parent.accuracy + gain, parent.right ^ flips)


def evidence_of(counts: PairedCounts, anchor: PairedCounts, uses: list[Use], *, same: bool = True) -> GateEvidence:
    """What the comparison rule reads."""
    against = Comparison("model-old", "eval-old", counts)
    return GateEvidence(
        task_id="task",
        challenger=EVALUATION,
        champion_id="model-old",
        anchor_id="model-old" if same else "model-anchor",
        champion=against,
        anchor=against if same else Comparison("model-anchor", "eval-anchor", anchor),
        uses=tuple(uses),
    )


def promotes_as(counts: PairedCounts, policy: GatePolicy, uses: list[Use] | None = None) -> PromotesAs | None:
    """One comparison whose champion is the anchor."""
    return champion_rule(evidence_of(counts, counts, uses or []), policy)[1]


def draw_counts(
    images: int, disagreement: float, gain: float, accuracy: float, random: np.random.Generator
) -> PairedCounts:
    """One challenger and champion on one frozen set, drawn independently."""
    won, lost = (disagreement + gain) / 2, (disagreement - gain) / 2
    both = accuracy - lost
    drawn = random.multinomial(images, [both, won, lost, 1 - both - won - lost]).tolist()
    return PairedCounts(*drawn)


@dataclass
class Chain:
    """A task's life on one frozen set: who is champion, who the anchor, and what the set was asked."""

    champion: Model
    policy: GatePolicy
    uses: list[Use]
    anchor: Model
    promotions: int = 0
    wrong: int = 0  # promotions that the policy calls wrong

    @staticmethod
    def begin(accuracy: float, images: int, policy: GatePolicy, random: np.random.Generator) -> "Chain":
        first = draw_model("first", accuracy, images, random)
        return Chain(first, policy, [FIRST], first)

    def meet(self, challenger: Model) -> PromotesAs | None:
        """Judge a challenger, and let it take the champion's place where the rule says so."""
        same = self.anchor is self.champion
        counts = counts_of(challenger.right, self.champion.right)
        to_anchor = counts if same else counts_of(challenger.right, self.anchor.right)
        evidence = evidence_of(counts, to_anchor, self.uses, same=same)
        promoted = champion_rule(evidence, self.policy)[1]
        if not next_comparison(self.uses, self.policy).spent:
            self.uses.append(Use(compared=True, outcome=Outcome(promoted.value) if promoted else Outcome.STAYS))
        if promoted is None:
            return None
        worse_than_anchor = challenger.accuracy < self.anchor.accuracy - self.policy.margin + 1e-12
        no_better = challenger.accuracy <= self.champion.accuracy + 1e-12
        self.wrong += bool(worse_than_anchor or (promoted is PromotesAs.SUPERIOR and no_better))
        self.promotions += 1
        self.champion = challenger
        if promoted is PromotesAs.SUPERIOR:
            self.anchor = challenger
        return promoted


def share(hits: int, draws: int) -> Interval:
    return wilson(hits, draws)


def with_policy(policy: GatePolicy, **changes: object) -> GatePolicy:
    return policy.model_copy(update=changes)


__all__ = ["Chain", "Model", "counts_of", "draw_counts", "draw_model", "promotes_as", "replace", "retrain", "share"]

"""A task's life on one frozen set: challengers whose truth is known, one after the other, and who is promoted.

A challenger is the champion with some of its answers flipped: it inherits the champion's luck on these very images, as
a retrained model does, and that luck is what repeated gates on one set can be fooled by. Whether an answer flips
depends on nothing but whether the champion was right, so images count only by who got them right: the frozen set of a
life is a table of four numbers, and drawing the next one is exact.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.gate_simulation import FIRST, Counts, generator, promotes_as
from flywheel.evaluation.evidence import PairedCounts
from flywheel.evaluation.spending import Outcome, Use, next_comparison
from flywheel.policies import GatePolicy
from flywheel.records import PromotesAs

IMAGES = 8000
ACCURACY = 0.8  # of the first champion
DISAGREEMENT = 0.1
MARGIN = GatePolicy().margin
RECIPE_SPREAD = 0.005  # standard deviation of the true accuracy of one recipe's models
CREEP = 0.005
SAME = 1e-12  # accuracies closer than this are equal


@dataclass(frozen=True)
class Decider:
    """Who decides over a life on one frozen set: the gate, or a way that it was built against."""

    policy: GatePolicy | None  # None: the rule of most programs
    spends: bool = True  # pays for what the set was asked before; else every gate is its first
    anchored: bool = True  # else the champion itself is what a challenger may not be worse than by the margin


@dataclass
class Life:
    """Who is champion, who the anchor, and what the frozen set was asked."""

    decider: Decider
    champion: float  # true accuracy
    anchor: float
    table: Counts  # images [champion right, anchor right]
    same: bool = True  # the champion is the anchor
    uses: list[Use] = field(default_factory=lambda: [FIRST])
    promotions: int = 0
    wrong: int = 0

    @staticmethod
    def begin(decider: Decider, accuracy: float, images: int, random: np.random.Generator) -> "Life":
        right = int(random.binomial(images, accuracy))
        return Life(decider, accuracy, accuracy, np.diag([images - right, right]))

    def meet(self, accuracy: float, disagreement: float, random: np.random.Generator) -> PromotesAs | None:
        """Judge a challenger of this true accuracy; it takes the champion's place where the decider says so."""
        joint = self._retrain(accuracy, disagreement, random)
        promoted = self._decide(joint)
        if promoted is not None:
            self._promote(promoted, accuracy, joint)
        return promoted

    def _retrain(self, accuracy: float, disagreement: float, random: np.random.Generator) -> Counts:
        """int64[2, 2, 2]: images by whether challenger, champion and anchor are right."""
        gain = accuracy - self.champion
        won = (disagreement + gain) / 2 / (1 - self.champion)
        lost = (disagreement - gain) / 2 / self.champion
        flipped = random.binomial(self.table, [[won], [lost]])
        kept = self.table - flipped
        return np.array([[kept[0], flipped[1]], [flipped[0], kept[1]]])

    def _decide(self, joint: Counts) -> PromotesAs | None:
        champion, anchor = paired(joint.sum(axis=2)), paired(joint.sum(axis=1))
        policy = self.decider.policy
        if policy is None:
            return PromotesAs.SUPERIOR if champion.only_challenger >= champion.only_other else None
        uses = self.uses if self.decider.spends else ()
        promoted = promotes_as(champion, anchor, uses, policy, same=self.same)
        if self.decider.spends and not next_comparison(self.uses, policy).spent:
            self.uses.append(Use(compared=True, outcome=Outcome(promoted.value) if promoted else Outcome.STAYS))
        return promoted

    def _promote(self, promoted: PromotesAs, accuracy: float, joint: Counts) -> None:
        policy = self.decider.policy or GatePolicy()
        too_bad = accuracy <= self.anchor - policy.margin + SAME
        no_better = accuracy <= self.champion + SAME
        self.wrong += too_bad or (promoted is PromotesAs.SUPERIOR and no_better)
        self.promotions += 1
        self.champion = accuracy
        self.same = promoted is PromotesAs.SUPERIOR or not self.decider.anchored
        self.table = np.diag(joint.sum(axis=(1, 2))) if self.same else joint.sum(axis=1)
        if self.same:
            self.anchor = accuracy


def paired(table: Counts) -> PairedCounts:
    """int64[2, 2] by whether the challenger, and the other, are right."""
    return PairedCounts(int(table[1, 1]), int(table[1, 0]), int(table[0, 1]), int(table[0, 0]))


# who comes next: a true accuracy, from what only the simulation knows

Next = Callable[[Life, np.random.Generator], float]


def as_good(life: Life, _: np.random.Generator) -> float:
    """As good as the champion: a promotion as superior is wrong."""
    return life.champion


def worse_by_the_margin(life: Life, _: np.random.Generator) -> float:
    """Worse than the anchor by just the margin: any promotion is wrong."""
    return life.anchor - MARGIN


def on_luck(life: Life, _: np.random.Generator) -> float:
    """Half the margin down first, rightly non-inferior and promoted when lucky; then the other half, on that luck."""
    return life.anchor - (MARGIN / 2 if life.same else MARGIN)


def same_recipe(_: Life, random: np.random.Generator) -> float:
    """Trained again by the same recipe: better or worse by chance."""
    return ACCURACY + RECIPE_SPREAD * float(random.standard_normal())


def creeping(life: Life, _: np.random.Generator) -> float:
    """Always a bit worse than the champion that it meets."""
    return life.champion - CREEP


def lives_with_a_wrong_promotion(who: Next, decider: Decider, lives: int, gates: int) -> int:
    random = generator(who.__name__, "any wrong promotion")
    return sum(_goes_wrong(who, Life.begin(decider, ACCURACY, IMAGES, random), gates, random) for _ in range(lives))


def _goes_wrong(who: Next, life: Life, gates: int, random: np.random.Generator) -> bool:
    for _ in range(gates):
        life.meet(who(life, random), DISAGREEMENT, random)
        if life.wrong:
            return True
    return False


@dataclass(frozen=True)
class Drift:
    """What became of many lives."""

    accuracy: NDArray[np.float64]  # [lives, gates + 1], the champion's true accuracy minus the first's
    promotions: float  # mean


def drift(who: Next, decider: Decider, lives: int, gates: int) -> Drift:
    random = generator(who.__name__, "drift")
    accuracy, promotions = np.zeros((lives, gates + 1)), 0
    for number in range(lives):
        life = Life.begin(decider, ACCURACY, IMAGES, random)
        for gate in range(1, gates + 1):
            life.meet(who(life, random), DISAGREEMENT, random)
            accuracy[number, gate] = life.champion - ACCURACY
        promotions += life.promotions
    return Drift(accuracy, promotions / lives)

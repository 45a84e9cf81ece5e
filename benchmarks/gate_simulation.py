"""Pairs of models whose true difference is known, judged by the gate's own rule and by what most programs do."""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flywheel.evaluation.evidence import Comparison, GateEvidence, PairedCounts
from flywheel.evaluation.rules.comparison import champion_rule
from flywheel.evaluation.spending import Outcome, Use
from flywheel.evaluation.statistics import wilson
from flywheel.policies import GatePolicy
from flywheel.records import Evaluation, Interval, PromotesAs

Counts = NDArray[np.int64]
ALPHA = 0.05
LEVEL = GatePolicy(planned_gates=1, wrong_promotion_budget=ALPHA)  # gives its first comparison that level, whole
FIRST = Use(compared=False, outcome=Outcome.SUPERIOR)
NEW, CHAMPION, ANCHOR = "model-new", "model-champion", "model-anchor"
# The comparison reads no more of it than the model's name.
CHALLENGER = Evaluation(
    id=f"eval-{NEW}",
    folder=Path("reports"),
    model_id=NEW,
    dataset_id="ds",
    evaluation_set_id="evalset",
    role="frozen",
    images=1,
    top1=Interval(0.0, 0.0, 1.0),
    majority_rate=0.1,
    classes=(),
    confusion=(),
    ece=0.0,
    nll=0.0,
    images_per_second=1.0,
)


def within(policy: GatePolicy) -> GatePolicy:
    """The same, but promoting what is non-inferior."""
    return policy.model_copy(update={"promote_non_inferior": True})


def generator(*names: object) -> np.random.Generator:
    """Random numbers of a simulation's own, the same in every run and in whatever order they are made."""
    return np.random.default_rng(zlib.crc32(" ".join(map(str, names)).encode()))


@dataclass(frozen=True)
class Pair:
    """A challenger and a champion: their true difference, and on how many images they differ."""

    images: int
    disagreement: float
    gain: float

    def draw(self, draws: int, random: np.random.Generator) -> Counts:
        """int64[draws, 2]: images that only the challenger got right, and only the champion."""
        won, lost = (self.disagreement + self.gain) / 2, (self.disagreement - self.gain) / 2
        return random.multinomial(self.images, [won, lost, 1 - won - lost], draws)[:, :2]

    def counts(self, won: int, lost: int) -> PairedCounts:
        """How the images on which they agree fall into right and wrong changes no promotion: here, half."""
        both = (self.images - won - lost) // 2
        return PairedCounts(both, won, lost, self.images - both - won - lost)


def promotions(pair: Pair, drawn: Counts, policy: GatePolicy, uses: Sequence[Use] = ()) -> Counter[PromotesAs | None]:
    """As what the gate's rule promotes the draws, each different one judged once."""
    found: Counter[PromotesAs | None] = Counter()
    for (won, lost), times in zip(*np.unique(drawn, axis=0, return_counts=True), strict=True):
        counts = pair.counts(int(won), int(lost))
        found[promotes_as(counts, counts, uses, policy, same=True)] += int(times)
    return found


def peers_promote(drawn: Counts) -> int:
    """The rule of most programs: not below the champion on the frozen set."""
    return int((drawn[:, 0] >= drawn[:, 1]).sum())


def promotes_as(
    champion: PairedCounts, anchor: PairedCounts, uses: Sequence[Use], policy: GatePolicy, *, same: bool
) -> PromotesAs | None:
    """The gate's rule, on the evidence that it reads; `same`: the champion is the anchor."""
    against = Comparison(CHAMPION, f"eval-{CHAMPION}", champion)
    evidence = GateEvidence(
        task_id="task",
        challenger=CHALLENGER,
        champion_id=CHAMPION,
        anchor_id=CHAMPION if same else ANCHOR,
        champion=against,
        anchor=against if same else Comparison(ANCHOR, f"eval-{ANCHOR}", anchor),
        uses=tuple(uses),
    )
    return champion_rule(evidence, policy)[1]


def rate(hits: int, draws: int) -> dict[str, float]:
    """A share with its 95 % interval, as figures have it."""
    found = wilson(hits, draws)
    return {"value": round(found.value, 5), "low": round(found.low, 5), "high": round(found.high, 5)}

"""The cells of `gate_errors` that are no lives: one comparison, the whole gate, and each rule at its own edge.

In each the models stand where a wrong answer is most probable, and the gate's own code answers.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.gate_simulation import LEVEL, Pair, generator, peers_promote, promotions, rate, within
from benchmarks.gate_worlds import CLASSES, World, draw_alone, draw_evidence, draw_measured
from flywheel.evaluation.evidence import GateEvidence
from flywheel.evaluation.gates import judge
from flywheel.evaluation.rules.floors import calibration_rule, top1_rule, worst_class_rule
from flywheel.evaluation.rules.regressions import latency_rule, robustness_rule
from flywheel.evaluation.rules.slices import slices_rule
from flywheel.policies import GatePolicy
from flywheel.records import RuleResult, Verdict

DRAWS = 100_000  # of one comparison, a cell
WHOLE_DRAWS = 20_000  # of everything that a gate looks at, a cell
CALIBRATION_DRAWS = 5_000  # whose interval costs 20 ms

Rates = dict[str, float]
Draw = Callable[[World, np.random.Generator], GateEvidence]
Rule = Callable[[GateEvidence, GatePolicy], RuleResult]


@dataclass(frozen=True)
class ComparisonCell:
    """Equal models, or a challenger that is worse by just the margin, at a level of .05."""

    images: int
    disagreement: float
    gain: float

    def __call__(self) -> Mapping[str, Rates]:
        pair = Pair(self.images, self.disagreement, self.gain)
        drawn = pair.draw(DRAWS, generator("comparison", self))
        policy = LEVEL if self.gain == 0 else within(LEVEL)
        stay = promotions(pair, drawn, policy)[None]
        return {"gate": rate(DRAWS - stay, DRAWS), "peers": rate(peers_promote(drawn), DRAWS)}


@dataclass(frozen=True)
class WholeCell:
    """Equal models, or a challenger that is worse by just the margin: what all rules together let through."""

    disagreement: float
    gain: float

    def __call__(self) -> Mapping[str, Rates]:
        world = World(gain=(self.gain,) * CLASSES, disagreement=self.disagreement)
        policy = LEVEL if self.gain == 0 else within(LEVEL)
        random = generator("whole", self)
        hits: Counter[str] = Counter()
        for _ in range(WHOLE_DRAWS):
            evidence = draw_evidence(world, (), random)
            verdict = judge(evidence, policy, {})
            hits["all rules"] += verdict.verdict is Verdict.PASS
            hits.update(f"fails: {rule.rule}" for rule in verdict.rules if rule.verdict is Verdict.FAIL)
            hits["comparison"] += any(r.rule == "champion" and r.verdict is Verdict.PASS for r in verdict.rules)
            hits["peers"] += evidence.champion is not None and evidence.champion.counts.difference >= 0
        return {name: rate(count, WHOLE_DRAWS) for name, count in sorted(hits.items())}


@dataclass(frozen=True)
class Edge:
    """A challenger that is just too bad by one rule."""

    rule: Rule
    world: World
    draw: Draw = draw_alone
    draws: int = WHOLE_DRAWS

    def __call__(self) -> Rates:
        random, policy = generator("edge", self.rule.__name__), GatePolicy()
        drawn = (self.draw(self.world, random) for _ in range(self.draws))
        return rate(sum(self.rule(each, policy).verdict is Verdict.PASS for each in drawn), self.draws)


def top1(evidence: GateEvidence, policy: GatePolicy) -> RuleResult:
    return top1_rule(evidence.challenger, policy)


def worst_class(evidence: GateEvidence, policy: GatePolicy) -> RuleResult:
    return worst_class_rule(evidence.challenger, policy)


def draw_whole(world: World, random: np.random.Generator) -> GateEvidence:
    return draw_evidence(world, (), random)


def edges(policy: GatePolicy) -> dict[str, Edge]:
    floor = 1 / CLASSES + policy.lift_over_majority * (1 - 1 / CLASSES)
    others, drop = CLASSES - 1, policy.largest_slice_drop
    return {
        "top-1": Edge(top1, World(accuracy=(floor,) * CLASSES)),
        "worst class recall": Edge(worst_class, World(accuracy=(policy.worst_class_recall, *(0.85,) * others))),
        "calibration": Edge(calibration_rule, World(ece=policy.largest_ece), draw_measured, CALIBRATION_DRAWS),
        "slices": Edge(slices_rule, World(gain=(-drop, *(drop / 2,) * others)), draw_whole),
        "robustness": Edge(robustness_rule, World(robustness=-policy.largest_robustness_loss), draw_whole),
        "latency": Edge(latency_rule, World(latency=policy.largest_latency_ratio), draw_whole),
    }

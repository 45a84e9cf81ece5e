"""How often a gate promotes what it should not, by simulation of models whose truth is known.

Wrong is a promotion as superior without a true gain, and any promotion of a model that is worse than the anchor by the
margin or more. Every cell stands at the edge, where a wrong promotion is most probable. The gate's own code judges all
of it; beside it what most programs do: promote what is not below the champion on the frozen set.
"""

import argparse
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.gate_cells import DRAWS, WHOLE_DRAWS, ComparisonCell, Rates, WholeCell, edges
from benchmarks.gate_figures import draw
from benchmarks.gate_lives import (
    MARGIN,
    Decider,
    Drift,
    Next,
    as_good,
    creeping,
    drift,
    lives_with_a_wrong_promotion,
    on_luck,
    same_recipe,
    worse_by_the_margin,
)
from benchmarks.gate_simulation import ALPHA, LEVEL, rate, within
from benchmarks.results import Claim, Figures, write_result
from flywheel.evaluation.statistics import CONFIDENCE
from flywheel.policies import GatePolicy

# That a rule passes what is just too bad by it: a 95 % interval misses the truth in 5 % of cases, and half of them at
# this end; a slice's test and the failing of any slice have the policy's level.
EDGE_LEVEL = max(1 - CONFIDENCE, GatePolicy().slice_error)
TOLERANCE = 0.005  # above the level, for the end of a simulated rate's interval
LIVES = 4_000
DRIFT_LIVES = 500
GATES = GatePolicy().planned_gates
DRIFT_GATES = 50
KEPT_GATES = 5  # between two points of the drift that are kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    with ProcessPoolExecutor(given.processes) as pool:
        running = {name: pool.submit(job) for name, job in jobs().items()}
        found = {}
        for name, job in running.items():
            found[name] = job.result()
            print(f"{name}: {found[name]}", flush=True)
    write_result(claim_of(found))
    draw("gate_errors")


# lives


@dataclass(frozen=True)
class LifeCell:
    """The share of lives with any wrong promotion."""

    who: Next
    decider: Decider

    def __call__(self) -> Rates:
        return rate(lives_with_a_wrong_promotion(self.who, self.decider, LIVES, GATES), LIVES)


@dataclass(frozen=True)
class DriftCell:
    """The champion's true accuracy over 50 gates."""

    who: Next
    decider: Decider

    def __call__(self) -> Drift:
        return drift(self.who, self.decider, DRIFT_LIVES, DRIFT_GATES)


PEERS = "not below the champion"
THE_GATE = "the gate"
WITH_WITHIN = "the gate, promoting non-inferior"


def life_deciders() -> dict[str, Decider]:
    tenth = LEVEL.model_copy(update={"wrong_promotion_budget": ALPHA / GATES})
    return {
        THE_GATE: Decider(GatePolicy()),
        WITH_WITHIN: Decider(within(GatePolicy())),
        "each gate an equal part": Decider(within(tenth), spends=False),
        ".05 at each gate": Decider(within(LEVEL), spends=False),
        PEERS: Decider(None),
    }


def drift_deciders() -> dict[str, Decider]:
    policy = GatePolicy(planned_gates=DRIFT_GATES)
    return {
        THE_GATE: Decider(policy),
        WITH_WITHIN: Decider(within(policy)),
        "non-inferior to the champion": Decider(within(LEVEL), spends=False, anchored=False),
        PEERS: Decider(None),
    }


LIFE_KINDS = {
    "as good as the champion": as_good,
    "worse than the anchor by the margin": worse_by_the_margin,
    "down on luck": on_luck,
}
DRIFT_KINDS = {"the same recipe": same_recipe, "half a point worse each time": creeping}


def jobs() -> dict[str, Callable[[], object]]:
    """Every cell by its name in the figures, the dearest first."""
    found: dict[str, Callable[[], object]] = {}
    for kind, gain in (("equal", 0.0), ("worse by the margin", -MARGIN)):
        for disagreement in (0.05, 0.1, 0.2) if gain == 0 else (0.1,):
            found[f"whole | {kind} | {disagreement:g}"] = WholeCell(disagreement, gain)
    for kind, who in DRIFT_KINDS.items():
        found |= {f"drift | {kind} | {name}": DriftCell(who, each) for name, each in drift_deciders().items()}
    for kind, who in LIFE_KINDS.items():
        found |= {f"life | {kind} | {name}": LifeCell(who, each) for name, each in life_deciders().items()}
    found |= {f"edge | {name}": edge for name, edge in edges(GatePolicy()).items()}
    for kind, gain in (("equal", 0.0), ("worse by the margin", -MARGIN)):
        for images in (1000, 2000, 8000):
            for disagreement in (0.05, 0.1, 0.2):
                cell = ComparisonCell(images, disagreement, gain)
                found[f"comparison | {kind} | {images:,} | {disagreement:g}"] = cell
    return found


# what it comes to


def claim_of(found: Mapping[str, object]) -> Claim:
    comparison: dict[str, Mapping[str, Rates]] = part(found, "comparison")
    whole: dict[str, Mapping[str, Rates]] = part(found, "whole")
    edge: dict[str, Rates] = part(found, "edge")
    life: dict[str, Rates] = part(found, "life")
    drifts: dict[str, Drift] = part(found, "drift")
    gate = [cell["gate"] for cell in comparison.values()] + [cell["all rules"] for cell in whole.values()]
    peers = [cell["peers"]["value"] for name, cell in {**comparison, **whole}.items() if name.startswith("equal")]
    ours = [value for name, value in life.items() if name.endswith((f"| {THE_GATE}", f"| {WITH_WITHIN}"))]
    budget = GatePolicy().wrong_promotion_budget
    figures: Figures = {
        "level": ALPHA,
        "draws_of_one_comparison": DRAWS,
        "draws_of_the_whole_gate": WHOLE_DRAWS,
        "false_promotion_rate": max(cell["value"] for cell in gate),
        "false_promotion_rate_high": max(cell["high"] for cell in gate),
        "peer_rule_false_promotion_rate": min(peers),
        "budget_of_a_life": budget,
        "lives_with_a_wrong_promotion": max(cell["value"] for cell in ours),
        "lives_with_a_wrong_promotion_high": max(cell["high"] for cell in ours),
        "one_comparison": table(comparison, {"gate": THE_GATE, "peers": PEERS}),
        "whole_gate": table(whole, {"all rules": "all rules", "comparison": "comparison alone", "peers": PEERS}),
        "rules_at_their_edge": edge_table(edge, whole),
        "lives": {name: value for key, cell in life.items() for name, value in with_high(key, cell).items()},
        "drift_points": drift_table(drifts),
        "drift_points_by_gate": drift_lines(drifts),
    }
    slices_fail = max(cell.get("fails: slices", rate(0, WHOLE_DRAWS))["high"] for cell in whole.values())
    return Claim(
        name="gate_errors",
        claim="A challenger that is not better, or too much worse, is promoted no more often than the policy says: in "
        "one comparison, by the whole gate, and over the life of a frozen set.",
        command="make bench NAME=gate_errors",
        figures=figures,
        holds=max(cell["high"] for cell in gate) <= ALPHA + TOLERANCE
        and max(cell["high"] for cell in ours) <= budget
        and all(cell["high"] <= EDGE_LEVEL + TOLERANCE for cell in edge.values())
        and slices_fail <= EDGE_LEVEL + TOLERANCE,
    )


def part(found: Mapping[str, object], kind: str) -> dict[str, Any]:
    """What was found of one kind, by the rest of its name."""
    return {name.partition(" | ")[2]: value for name, value in found.items() if name.startswith(f"{kind} | ")}


def with_high(name: str, cell: Rates) -> Rates:
    return {name: cell["value"], f"{name}, at most": cell["high"]}


def table(cells: Mapping[str, Mapping[str, Rates]], columns: Mapping[str, str]) -> Rates:
    """The first column with the high end of its interval."""
    found: Rates = {}
    for name, cell in cells.items():
        first, *others = [(f"{name} | {shown}", cell[column]) for column, shown in columns.items()]
        found |= with_high(*first) | {key: other["value"] for key, other in others}
    return found


def edge_table(edge: Mapping[str, Rates], whole: Mapping[str, Mapping[str, Rates]]) -> Rates:
    """Each rule where a challenger is just too bad by it, and how often it fails models that are equal."""
    found: Rates = {}
    for name, cell in edge.items():
        fails = [
            each.get(f"fails: {name}", rate(0, WHOLE_DRAWS))["value"] for key, each in whole.items() if "equal" in key
        ]
        found |= with_high(f"{name} | passes", cell)
        found[f"{name} | fails equal models"] = max(fails)
    return found


def drift_table(drifts: Mapping[str, Drift]) -> Rates:
    """The last champion's true accuracy minus the first's, in points."""
    found: Rates = {}
    for name, each in drifts.items():
        last = each.accuracy[:, -1] * 100
        found[f"{name} | mean"] = round(float(last.mean()), 2)
        found[f"{name} | worst 5 %"] = round(float(np.quantile(last, 0.05)), 2)
        found[f"{name} | promotions"] = round(each.promotions, 2)
    return found


def drift_lines(drifts: Mapping[str, Drift]) -> Rates:
    return {
        f"{name} | {gate}": round(float(each.accuracy[:, gate].mean()) * 100, 3)
        for name, each in drifts.items()
        for gate in range(0, DRIFT_GATES + 1, KEPT_GATES)
    }


if __name__ == "__main__":
    main()

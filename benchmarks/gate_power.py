"""How often a gate sees that a challenger is better, or as good: exact powers, checked by simulating its rule.

Power is the chance of a promotion as superior for a true gain, and as non-inferior for an equal challenger. It depends
on the number of images, on how many the two models differ on, and on the level: .05, what one comparison alone would
have, and what the default policy gives its first gate and its tenth.
"""

import argparse
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.stats import binom

from benchmarks.gate_figures import draw
from benchmarks.gate_simulation import LEVEL, Counts, Pair, generator, peers_promote, promotions
from benchmarks.results import Claim, Figures, write_result
from flywheel.evaluation.power import history, noninferiority_power, superiority_power
from flywheel.evaluation.spending import Use, next_comparison
from flywheel.policies import GatePolicy
from flywheel.records import PromotesAs

IMAGES = (1000, 2000, 8000)
DISAGREEMENTS = (0.05, 0.1, 0.2)
GAINS = (0.0, 0.01, 0.02, 0.03)
DRAWS = 10_000  # of each pair
FARTHEST = 4.0  # standard errors between simulation and enumeration, of about a hundred cells
PLAN_IMAGES = 8000
WANTED_POWER = 0.8
POLICY = GatePolicy()
PROMOTED = ("", ", after a promotion")


@dataclass(frozen=True)
class Gate:
    """A policy, and what the frozen set was asked before."""

    policy: GatePolicy
    uses: tuple[Use, ...] = ()

    @property
    def alpha(self) -> float:
        return next_comparison(self.uses, self.policy).alpha


def default_gate(number: int, promoted: int = 0, policy: GatePolicy = POLICY) -> Gate:
    """The default policy's gate of that number, after so many promotions."""
    return Gate(policy, tuple(history(number, promoted)))


GATES = {".05": Gate(LEVEL), "first gate": default_gate(1), "tenth gate": default_gate(10)}


@dataclass(frozen=True)
class Power:
    """A power by enumeration, and how far from it the simulation of the rule ended, in standard errors."""

    exact: float
    simulated: float

    @property
    def distance(self) -> float:
        """A chance of less than one hit in all draws is granted to both."""
        error = sqrt(max(self.exact * (1 - self.exact), 1 / DRAWS) / DRAWS)
        return abs(self.exact - self.simulated) / error


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    write_result(claim_of(superior(), peers(), plan()))
    draw("gate_power")


def superior() -> dict[str, Power]:
    """By images, disagreement, gate and gain; at no gain, a promotion is wrong."""
    found = {}
    for pair, drawn in pairs():
        for name, gate in GATES.items():
            exact = superiority_power(pair.images, pair.disagreement, pair.gain, gate.alpha)
            hits = promotions(pair, drawn, gate.policy, gate.uses)[PromotesAs.SUPERIOR]
            found[key(pair, name)] = Power(exact, hits / DRAWS)
            print(f"{key(pair, name)}: {found[key(pair, name)]}", flush=True)
    return found


def peers() -> dict[str, Power]:
    """The rule of most programs, for the same gains."""
    return {
        key(pair, "not below the champion"): Power(peers_power(pair), peers_promote(drawn) / DRAWS)
        for pair, drawn in pairs()
    }


def plan() -> dict[str, Power]:
    """Every planned gate of the default policy, after none and one promotion, with the disagreement that it expects.

    An equal challenger is to be shown non-inferior, one that is better by the margin superior.
    """
    found, policy = {}, POLICY.model_copy(update={"promote_non_inferior": True})
    for name, gain in (("equal", 0.0), ("better by the margin", POLICY.margin)):
        pair = Pair(PLAN_IMAGES, POLICY.disagreement, gain)
        drawn = pair.draw(DRAWS, generator("plan", pair))
        for promoted, when in enumerate(PROMOTED):
            for number in range(1 + promoted, POLICY.planned_gates + 1):
                gate = default_gate(number, promoted, policy)
                ends = promotions(pair, drawn, gate.policy, gate.uses)
                hits = DRAWS - ends[None] if gain == 0 else ends[PromotesAs.SUPERIOR]
                found[f"{number} | {name}{when}"] = Power(planned_power(pair, gate.alpha), hits / DRAWS)
    return found


def planned_power(pair: Pair, alpha: float) -> float:
    if pair.gain > 0:
        return superiority_power(pair.images, pair.disagreement, pair.gain, alpha)
    return noninferiority_power(pair.images, pair.disagreement, pair.gain, POLICY.margin, alpha)


def pairs() -> list[tuple[Pair, Counts]]:
    found = [Pair(images, differ, gain) for images in IMAGES for differ in DISAGREEMENTS for gain in GAINS]
    return [(pair, pair.draw(DRAWS, generator("power", pair))) for pair in found]


def key(pair: Pair, rule: str) -> str:
    return f"{pair.images:,} | {pair.disagreement:g} | {rule} | {pair.gain * 100:+g}"


def peers_power(pair: Pair) -> float:
    """The chance that a challenger is right on at least half of the images on which the two differ."""
    differing = np.arange(pair.images + 1)
    share = (pair.disagreement + pair.gain) / (2 * pair.disagreement)
    reaches = binom.sf(np.ceil(differing / 2) - 1, differing, share)
    return float((binom.pmf(differing, pair.images, pair.disagreement) * reaches).sum())


def claim_of(superior: dict[str, Power], peers: dict[str, Power], plan: dict[str, Power]) -> Claim:
    every = {**superior, **peers, **plan}
    farthest = max(power.distance for power in every.values())
    weakest = min(power.exact for name, power in plan.items() if not name.endswith(PROMOTED[1]))
    figures: Figures = {
        "draws_a_cell": DRAWS,
        "cells": len(every),
        "largest_distance_in_standard_errors": round(farthest, 2),
        "weakest_planned_gate": floor(weakest),
        **{f"level_{name.strip('.').replace(' ', '_')}": round(gate.alpha, 6) for name, gate in GATES.items()},
        "power": {name: floor(power.exact) for name, power in superior.items()},
        "power_of_peers": {name: floor(power.exact) for name, power in peers.items()},
        "power_of_planned_gates": {name: floor(power.exact) for name, power in plan.items()},
    }
    return Claim(
        name="gate_power",
        claim=f"On {PLAN_IMAGES:,} frozen images, as long as nothing was promoted, every planned gate of the default "
        "policy shows an equal challenger to be non-inferior, and one that is better by the margin to be superior, "
        f"with a power of at least {WANTED_POWER:g}; enumeration and a simulation of the rule agree.",
        command="make bench NAME=gate_power",
        figures=figures,
        holds=weakest >= WANTED_POWER and farthest <= FARTHEST,
    )


def floor(power: float) -> float:
    """To three digits, and 1 only where it is."""
    return min(round(power, 3), 0.999) if power < 1 else 1.0


if __name__ == "__main__":
    main()

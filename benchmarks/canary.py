"""How often does a canary's judge err, and how soon does it tell? Simulated trials with the answers of real models.

The champion is a served model whose confidences on images that it never learned from are drawn anew for each request.
An equal challenger draws from the same; a broken one from its answers to the same images as a mistaken input pipeline
would show them. Failures are drawn by their rate, times from a log-normal. Two more judge the same looks by a normal
test that takes each look for the only one: with the same tolerances, and of any difference at all.
"""

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from math import log
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from benchmarks.monitoring_world import Labelled, World, add_arguments, worlds
from benchmarks.results import Claim, Figures, table_of, write_result
from flywheel.evaluation.canary import Arm, judge_canary
from flywheel.evaluation.statistics import wilson
from flywheel.policies import CanaryPolicy

MODEL = "resnet10t"
TRIALS = 2_000
STEP = 20  # requests of the challenger from look to look
POLICY = CanaryPolicy()
LOOKS = POLICY.most_answers // STEP
OTHERS = round(STEP * (1 - POLICY.share) / POLICY.share)  # requests of the champion meanwhile
FAILING = 0.001  # of the champion's requests
TIME_SPREAD = 0.5  # of the logarithm of an answer's time
BEFORE = 1_000  # answers of the champion before the trial, which say what is slow
LABELLED = 0.1  # of the answers, where labels come
BROKEN = (
    *("red and blue are swapped", "images are upside down"),
    *("images are normalised twice", "pixels are divided by 255 twice", "colour is lost"),
)
EQUAL = ("equal", "equal, with labels")
EDGE = ("2 points more fail, as tolerated", "10 points more are slow, as tolerated")
BLIND = "always sure of one class"
HARMFUL = (  # beyond a tolerance by half of it or more, in what a trial can see
    *("5 points more fail", "20 points more fail", "every request fails", "twice as slow"),
    *("images are upside down", "images are normalised twice", "pixels are divided by 255 twice"),
    f"{BLIND}, with labels",
)
RULES = ("judge", "test of each look", "test of any difference")

Counts = NDArray[np.float64]  # [looks, 7]: an arm's fields, summed since the trial began


@dataclass(frozen=True)
class Challenger:
    """How it differs from the champion."""

    answers: Labelled
    failing: float = 0.0  # requests beyond the champion's share
    slower: float = 1.0  # times
    labelled: float = 0.0


@dataclass(frozen=True)
class Ended:
    """How a trial ended by one rule, and after how many of the challenger's requests."""

    step: str
    requests: int
    shown: bool  # not by the trial's end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--trials", type=int, default=TRIALS)
    given = parser.parse_args()
    with worlds(given.source, given.homes) as found:
        champion, cells = found[MODEL].clean, challengers(found[MODEL])
    rows: dict[str, dict[str, float]] = {}
    for name, challenger in cells.items():
        rows |= cell(name, champion, challenger, given.trials)
    print(write_result(claim_of(rows, harms(champion, cells), given.trials)))


def challengers(world: World) -> dict[str, Challenger]:
    clean, sure = world.clean, constant(world.clean)
    return {
        EQUAL[0]: Challenger(clean),
        EQUAL[1]: Challenger(clean, labelled=LABELLED),
        EDGE[0]: Challenger(clean, failing=POLICY.largest_failure_increase),
        EDGE[1]: Challenger(clean, slower=slower_by(POLICY.largest_slow_increase)),
        "5 points more fail": Challenger(clean, failing=0.05),
        "20 points more fail": Challenger(clean, failing=0.2),
        "every request fails": Challenger(clean, failing=1.0),
        "twice as slow": Challenger(clean, slower=2.0),
        **{name: Challenger(world.conditions[name]) for name in BROKEN},
        BLIND: Challenger(sure),
        f"{BLIND}, with labels": Challenger(sure, labelled=LABELLED),
    }


def slower_by(share: float) -> float:
    """How many times as slow one is of whose answers such a share more is beyond the champion's 95 %."""
    normal = NormalDist()
    return float(np.exp(TIME_SPREAD * (normal.inv_cdf(0.95) - normal.inv_cdf(0.95 - share))))


def constant(answered: Labelled) -> Labelled:
    """A model that answers the first class, with certainty."""
    certain = np.zeros_like(answered.sample.probabilities)
    certain[:, 0] = 1
    return Labelled(replace(answered.sample, probabilities=certain), answered.labels)


def harms(champion: Labelled, cells: dict[str, Challenger]) -> dict[str, dict[str, float]]:
    """How much worse each truly is, in points, by the four measures."""
    found = {}
    for name, each in cells.items():
        normal = NormalDist()
        slow = 1 - normal.cdf(normal.inv_cdf(0.95) - log(each.slower) / TIME_SPREAD) - 0.05
        lost = confidence(champion).mean() - confidence(each.answers).mean()
        accuracy = champion.accuracy - each.answers.accuracy
        shares = {"failed": each.failing, "slow": slow, "confidence": lost, "accuracy": accuracy}
        found[name] = {measure: round(100 * float(share), 1) + 0.0 for measure, share in shares.items()}
    return found


def confidence(answered: Labelled) -> NDArray[np.float64]:
    return answered.sample.probabilities.max(1).astype(np.float64)


def cell(name: str, champion: Labelled, challenger: Challenger, trials: int) -> dict[str, dict[str, float]]:
    """The rows of one challenger, by rule."""
    play = partial(played, champion, challenger)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        ends = list(pool.map(play, range(trials), chunksize=20))
    rows = {f"{name} | {rule}": summary([each[rule] for each in ends]) for rule in RULES}
    for row, cells in rows.items():
        print(row, cells, flush=True)
    return rows


def played(champion: Labelled, challenger: Challenger, seed: int) -> dict[str, Ended]:
    """One trial, by all rules on the same answers."""
    random = np.random.default_rng([seed, 1])
    bound = float(np.quantile(times(random, BEFORE), 0.95))
    first = counted(random, Challenger(champion, labelled=challenger.labelled), OTHERS, bound)
    second = counted(random, challenger, STEP, bound)
    return {
        RULES[0]: by_judge(first, second),
        RULES[1]: by_test(first, second, tolerant=True),
        RULES[2]: by_test(first, second, tolerant=False),
    }


def times(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    return random.lognormal(0, TIME_SPREAD, count)


def counted(random: np.random.Generator, model: Challenger, a_look: int, bound: float) -> Counts:
    """What an arm has counted by each look."""
    requests = LOOKS * a_look
    rows = random.integers(0, len(model.answers), requests)
    given = random.random(requests) >= FAILING + model.failing
    slow = times(random, requests) * model.slower > bound
    sure = confidence(model.answers)[rows].clip(0, 1)
    labelled = random.random(requests) < model.labelled
    right = (model.answers.sample.predicted == model.answers.labels)[rows]
    of_answers = np.stack([np.ones(requests), slow, sure, sure**2, labelled, labelled & right], 1) * given[:, None]
    each = np.column_stack([~given, of_answers])
    summed: Counts = each.reshape(LOOKS, a_look, -1).sum(1).cumsum(0)
    return summed


def arm(counts: Counts) -> Arm:
    failures, answers, slow, total, squares, labelled, right = counts.tolist()
    return Arm(int(answers), int(failures), int(slow), total, squares, int(labelled), int(right))


def by_judge(champion: Counts, challenger: Counts) -> Ended:
    for look in range(LOOKS):
        found = judge_canary(arm(champion[look]), arm(challenger[look]), POLICY, seconds=0.0)
        if found.verdict != "go on":
            break
    harm = any(measure.verdict == "harm" for measure in found.measures)
    return Ended(found.verdict, (look + 1) * STEP, shown=harm or look + 1 < LOOKS)


def by_test(champion: Counts, challenger: Counts, *, tolerant: bool) -> Ended:
    """A normal test of every measure at every look, each at the level. Where no difference is tolerated none can be
    excluded, so the others are promoted at the end."""
    line = NormalDist().inv_cdf(1 - POLICY.level)
    scores = np.stack(list(_scores(champion, challenger, tolerant)), 1)
    harmful = np.nanmax(scores, axis=1, initial=-np.inf) > line
    enough = np.minimum(champion[:, 1], challenger[:, 1]) >= POLICY.fewest_answers
    harmless = enough & (np.nanmax(scores, axis=1, initial=-np.inf) < -line) if tolerant else np.zeros(LOOKS, bool)
    told = harmful | harmless
    if not told.any():
        return Ended("promote", LOOKS * STEP, shown=False)
    look = int(told.argmax())
    return Ended("roll back" if harmful[look] else "promote", (look + 1) * STEP, shown=True)


def _scores(champion: Counts, challenger: Counts, tolerant: bool) -> Iterator[Counts]:
    """float64[looks] a measure: how many standard errors the harm lies above what is tolerated; NaN without any."""
    tolerances = (
        *(POLICY.largest_failure_increase, POLICY.largest_slow_increase),
        *(POLICY.largest_confidence_loss, POLICY.largest_accuracy_loss),
    )
    for measure, tolerance in enumerate(tolerances):
        with np.errstate(divide="ignore", invalid="ignore"):
            (mean, variance), (other, other_variance) = (_moments(each, measure) for each in (challenger, champion))
            yield (mean - other - tolerance * tolerant) / np.sqrt(variance + other_variance)


def _moments(counts: Counts, measure: int) -> tuple[Counts, Counts]:
    """The mean of what is counted against an arm, and that mean's variance."""
    failures, answers, slow, total, squares, labelled, right = counts.T
    if measure == 2:  # confidence
        mean = total / answers
        return 1 - mean, (squares / answers - mean**2) / answers
    count, trials = [(failures, answers + failures), (slow, answers), (), (labelled - right, labelled)][measure]
    share = count / trials
    return share, share * (1 - share) / trials


def summary(ends: list[Ended]) -> dict[str, float]:
    """Shares of trials, and after how many of the challenger's requests one ends."""
    counts = {(step, shown): 0 for step in ("roll back", "promote") for shown in (True, False)}
    for end in ends:
        counts[end.step, end.shown] += 1
    harmful, harmless = counts["roll back", True], counts["promote", True]
    promoted, requests = harmless + counts["promote", False], [end.requests for end in ends]
    return {
        "found harmful": harmful / len(ends),
        "at most": round(wilson(harmful, len(ends)).high, 4),
        "rolled back undecided": counts["roll back", False] / len(ends),
        "found harmless": harmless / len(ends),
        "promoted undecided": counts["promote", False] / len(ends),
        "promoted, at most": round(wilson(promoted, len(ends)).high, 4),
        "requests, median": float(np.median(requests)),
        "requests, nine in ten": round(float(np.quantile(requests, 0.9))),
    }


def claim_of(rows: dict[str, dict[str, float]], true: dict[str, dict[str, float]], trials: int) -> Claim:
    """Of the judge's own rows: what is wrong of an equal challenger, of one at the edge and of a harmful one."""
    own = {name: rows[f"{name} | {RULES[0]}"] for name in true}
    back = {name: own[name]["found harmful"] + own[name]["rolled back undecided"] for name in EQUAL}
    head: Figures = {
        "trials_a_cell": trials,
        "level": POLICY.level,
        "equal_rolled_back": max(back.values()),
        "equal_rolled_back_high": max(wilson(round(share * trials), trials).high for share in back.values()),
        "edge_found_harmful_high": max(own[name]["at most"] for name in EDGE),
        "edge_found_harmless": max(own[name]["found harmless"] for name in EDGE),
        "harmful_promoted_high": max(own[name]["promoted, at most"] for name in HARMFUL),
        "equal_rolled_back_by_tests_of_any_difference": rows[f"{EQUAL[0]} | {RULES[2]}"]["found harmful"],
    }
    wrong = ("equal_rolled_back_high", "edge_found_harmful_high", "edge_found_harmless", "harmful_promoted_high")
    return Claim(
        name="canary",
        claim=f"Looked at every {STEP} requests, an equal challenger is rolled back, one that is beyond a tolerance by "
        f"half of it promoted, and one at its edge found to be either, in {POLICY.level:.0%} of trials at most.",
        command="make bench NAME=canary SOURCE=/path/to/cifar10",
        figures={**head, "true_harm_points": table_of(true), "trials": table_of(rows)},
        holds=all(float(str(head[name])) <= POLICY.level for name in wrong),
    )


if __name__ == "__main__":
    main()

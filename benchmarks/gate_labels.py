"""How many labelled images a guarantee costs: flywheel's paired test against ease.ml/ci's estimator.

The condition is `n - o > 0.02 +/- 0.01`: the new model's top-1 must lie 2 points above the old one's. The guarantee is
one over all steps: with the reliability asked for, no model passes whose true gain is 2 points or less, and none is
missed whose gain is 4 points or more. Between the two either answer is right.

ease.ml/ci's public estimator bounds each model's accuracy by itself (Hoeffding). Its paper (Renggli et al., MLSys 2019)
also has a bound for two models that differ on a known share of images (Bennett); its formula stands beside. Ours is
the score test that the gate makes, at the smallest number of images for which enumeration finds both errors within
their shares: half of a step's each, so no less strict than theirs. The false pass holds however often the two models
differ, at a level that is lowered until it does; the miss where they differ no more often than planned for.
"""

import argparse
import json
import subprocess
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import ceil, log
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from benchmarks.gate_figures import draw
from benchmarks.peers import PEERS, PeerError, python_of
from benchmarks.results import Claim, Figures, write_result
from flywheel.evaluation.power import noninferiority_miss, noninferiority_power
from flywheel.evaluation.spending import Outcome, Use, next_comparison
from flywheel.policies import GatePolicy

COMMIT = "7f6b0513c410683faaf3e49f49b1be476d663156"
ESTIMATOR = "easeml_cicd/core/utils.py"
PEER_SECONDS = 120.0

BAR, TOLERANCE = 0.02, 0.01  # of the condition
SEEN = BAR + 2 * TOLERANCE  # a gain that may not be missed
RELIABILITIES = (0.99, 0.999)
STEPS = (1, 32)
ADAPTIVITIES = ("none", "full")
DISAGREEMENTS = (0.05, 0.1)  # planned for
PASSES = (0, 1, 3)  # before the last step, where the budget is weighted by history

# How often two models may differ, whose gain is at the bar; closest where the test is farthest from normal and moves
# in steps: where the old model is almost never right alone.
COARSE = np.geomspace(BAR, 1, 16)
FINE = np.concatenate([[BAR], BAR * (1 + np.geomspace(1e-3, 0.3, 80)), np.geomspace(0.027, 0.1, 16), COARSE])
RESERVE = 0.99  # of a false pass, for what lies between these
PRECISION = 0.001  # of the number of images
SMALLER = 1e-6  # a part of the level that a sum may leave out


@dataclass(frozen=True)
class Case:
    """What a user asks for."""

    reliability: float
    steps: int
    adaptivity: str

    @property
    def delta(self) -> float:
        return 1 - self.reliability

    @property
    def parts(self) -> int:
        """Over which the unreliability is spread: the steps, or all answers that there may be to them."""
        return self.steps if self.adaptivity == "none" else 2**self.steps

    @property
    def error(self) -> float:
        """Of each side in each step."""
        return self.delta / self.parts / 2

    def __str__(self) -> str:
        return f"{self.reliability:g} | {self.steps} | {self.adaptivity}"


Shares = NDArray[np.float64]
CASES = [Case(r, steps, adaptivity) for r in RELIABILITIES for steps in STEPS for adaptivity in ADAPTIVITIES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--peer-easeml", "--PEER_EASEML", required=True, type=Path, help=f"a checkout of easeml/ci at {COMMIT}"
    )
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    theirs = estimator_labels(given.peer_easeml.resolve())
    weighted = {
        f"{case} | {passes} passed | {planned:g}": (weighted_error(case, passes), planned)
        for case in CASES
        if case.steps > 1 and case.adaptivity == "full"
        for passes in PASSES
        for planned in DISAGREEMENTS
    }
    asked = {f"{case} | {planned:g}": (case.error, planned) for case in CASES for planned in DISAGREEMENTS}
    with ProcessPoolExecutor(given.processes) as pool:
        running = {name: pool.submit(images_for, *each) for name, each in {**asked, **weighted}.items()}
        found = {}
        for name, job in running.items():
            found[name] = job.result()
            print(f"{name}: {found[name]}", flush=True)
    ours = {name: found[name] for name in asked}
    write_result(claim_of(theirs, ours, {name: found[name] for name in weighted}))
    draw("gate_labels")


# theirs


def estimator_labels(checkout: Path) -> dict[str, int]:
    """Their public estimator's answers, from a checkout of the commit that is compared with. Raises PeerError."""
    check_checkout(checkout)
    command = [str(python_of("easeml-ci")), str(PEERS / "easeml_ci.py"), str(checkout)]
    asked = json.dumps([(case.reliability, case.steps, case.adaptivity) for case in CASES])
    done = subprocess.run(
        command, input=asked, capture_output=True, text=True, timeout=PEER_SECONDS, check=False, cwd="/"
    )
    if done.returncode:
        raise PeerError(f"peer easeml-ci: its estimator ended with exit code {done.returncode}.\n{done.stderr.strip()}")
    return dict(zip(map(str, CASES), json.loads(done.stdout), strict=True))


def check_checkout(checkout: Path) -> None:
    """That this very commit is there, and its estimator as committed. Raises PeerError."""
    wanted = f"{checkout}: a checkout of easeml/ci (GitHub) at {COMMIT} expected"
    if not (checkout / ESTIMATOR).is_file():
        raise PeerError(f"{wanted}, no {ESTIMATOR} found. Clone it outside of this project and give PEER_EASEML=<it>.")
    head = _git(checkout, "rev-parse", "HEAD")
    if head != COMMIT:
        raise PeerError(f"{wanted}, {head or 'no commit'} found. Run 'git checkout {COMMIT}' there.")
    if _git(checkout, "status", "--porcelain", "--", "easeml_cicd"):
        raise PeerError(f"{wanted}, its code was changed. Run 'git checkout -f {COMMIT}' there.")


def _git(checkout: Path, *command: str) -> str:
    done = subprocess.run(["git", "-C", str(checkout), *command], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def paper_labels(case: Case, planned: float) -> int:
    """Their paper's bound for two models that differ on no more than a share p of images (Renggli et al. 2019, 4.1).

    (ln H - ln(δ/4)) / (p h(ε/p)) with h(u) = (1+u) ln(1+u) - u, for H parts; half of δ goes into testing that share.
    """
    ratio = TOLERANCE / planned
    return ceil((log(case.parts) - log(case.delta / 4)) / (planned * ((1 + ratio) * log(1 + ratio) - ratio)))


# ours


@dataclass(frozen=True)
class Labels:
    """How many images, and the errors that enumeration finds at them."""

    images: int
    level: float  # of the test
    false_pass: float  # at most, however often the two differ
    miss: float  # at most, where they differ no more often than planned


def images_for(error: float, planned: float) -> Labels:
    """The fewest images, to a thousandth, at which neither error is above what it may be."""
    images = asymptotic_images(error, planned)
    level = level_for(images, error, COARSE)
    images = fewest(images, level, error, planned)
    while True:
        level = level_for(images, error, FINE)
        found = Labels(images, level, false_pass(images, level, FINE), miss(images, level, planned))
        if found.miss <= error:
            return found
        images = ceil(images * (1 + PRECISION))


def asymptotic_images(error: float, planned: float) -> int:
    return ceil((NormalDist().inv_cdf(error) / TOLERANCE) ** 2 * planned)


def level_for(images: int, error: float, disagreements: Shares) -> float:
    """The test's own level, lowered until no false pass is more probable than the error allows."""
    level = error
    while (found := false_pass(images, level, disagreements)) > RESERVE * error:
        level *= 0.999 * RESERVE * error / found
    return level


def false_pass(images: int, level: float, disagreements: Shares) -> float:
    return max(
        noninferiority_power(images, differ, BAR, -BAR, level, level * SMALLER) for differ in disagreements.tolist()
    )


def miss(images: int, level: float, planned: float) -> float:
    """Where the two differ as planned, and less often."""
    return max(
        noninferiority_miss(images, differ, SEEN, -BAR, level, level * SMALLER)
        for differ in np.geomspace(SEEN, planned, 4).tolist()
    )


def fewest(images: int, level: float, error: float, planned: float) -> int:
    """The images from which on a test of this level misses seldom enough, by bisection."""
    low, high = images // 2, images * 2
    while high - low > max(1, low * PRECISION):
        middle = (low + high) // 2
        if miss(middle, level, planned) <= error:
            high = middle
        else:
            low = middle
    return high


def weighted_error(case: Case, passes: int) -> float:
    """What flywheel's budget gives each side of the last step after so many passes, which came first."""
    policy = GatePolicy(wrong_promotion_budget=case.delta / 2, planned_gates=case.steps)
    outcomes = [Outcome.SUPERIOR] * passes + [Outcome.STAYS] * (case.steps - 1 - passes)
    return next_comparison([Use(compared=True, outcome=outcome) for outcome in outcomes], policy).alpha


def passes_until_dearer(case: Case) -> int:
    """From how many passes on the equal share of all answers is more than the budget that is weighted by history."""
    return next(passes for passes in range(case.steps) if weighted_error(case, passes) < case.error)


# what it comes to


def claim_of(theirs: dict[str, int], ours: dict[str, Labels], weighted: dict[str, Labels]) -> Claim:
    to_public = {name: theirs[name.rpartition(" | ")[0]] / found.images for name, found in ours.items()}
    paper = {f"{case} | {planned:g}": paper_labels(case, planned) for case in CASES for planned in DISAGREEMENTS}
    to_paper = {name: paper[name] / found.images for name, found in ours.items()}
    longest = Case(RELIABILITIES[0], STEPS[-1], "full")
    figures: Figures = {
        "condition": f"n - o > {BAR:g} +/- {TOLERANCE:g}",
        "easeml_ci_commit": COMMIT,
        "smallest_ratio_to_easeml_ci": round(min(to_public.values()), 1),
        "largest_ratio_to_easeml_ci": round(max(to_public.values()), 1),
        "smallest_ratio_to_their_paper": round(min(to_paper.values()), 2),
        "largest_ratio_to_their_paper": round(max(to_paper.values()), 2),
        "passes_until_weighted_is_dearer": passes_until_dearer(longest),
        "ratio_to_easeml_ci": {name: round(ratio, 1) for name, ratio in to_public.items()},
        "labels": {
            key: value
            for name, found in ours.items()
            for key, value in {
                f"{name} | ease.ml/ci": theirs[name.rpartition(" | ")[0]],
                f"{name} | their paper": paper[name],
                f"{name} | flywheel": found.images,
            }.items()
        },
        "labels_weighted_by_history": {name: found.images for name, found in weighted.items()},
        "false_pass_of_its_share": {name: round(found.false_pass / error_of(name), 4) for name, found in ours.items()},
        "miss_of_its_share": {name: round(found.miss / error_of(name), 4) for name, found in ours.items()},
    }
    return Claim(
        name="gate_labels",
        claim="The same guarantee for `n - o > 0.02 +/- 0.01` takes fewer labels than ease.ml/ci's public estimator "
        "asks for, and fewer than its paper's bound for two models that seldom differ.",
        command="make bench NAME=gate_labels PEER_EASEML=<checkout of easeml/ci>",
        figures=figures,
        holds=min(to_public.values()) > 1 and min(to_paper.values()) > 1,
    )


def error_of(name: str) -> float:
    reliability, steps, adaptivity, _ = name.split(" | ")
    return Case(float(reliability), int(steps), adaptivity).error


if __name__ == "__main__":
    main()

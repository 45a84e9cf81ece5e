"""How far off is the accuracy that is estimated without labels? Windows of real images, corrupted and not.

The regressor is fitted without the family of corruption that it is scored on, on other images, and in a second column
on the other model. No corruption of the kind of "warm light" is ever fitted on: it stands for what nobody thought of.
It and pixelate were scored in no trial by which the estimator's features and fit were chosen last; that was done on the
other six families, on these two models. Figures of a full run, theirs among them, had been seen when the interval's
shape was chosen. Prior shifts and clean windows are scored by the whole baseline, as a deployment has it; there the
estimate is the diagnosis' where that finds other shares of the classes.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.monitoring_world import Labelled, World, add_arguments, ask, worlds
from benchmarks.results import Claim, Figures, table_of, write_result
from flywheel.evaluation.corruptions import ALL_SEVERITIES, CORRUPTIONS
from flywheel.monitoring.accuracy_estimate import Regressor, estimate
from flywheel.monitoring.baseline import Baseline, assemble
from flywheel.monitoring.breakages import BREAKAGES
from flywheel.monitoring.diagnosis import diagnose
from flywheel.monitoring.drift import measure_drift
from flywheel.monitoring.sample import Sample
from flywheel.policies import DiagnosisPolicy

FITTED = 500  # of the changed images, as many as a baseline takes; windows are scored on the others
WINDOWS = (100, 250, 500, 1_000)
REPETITIONS = 10
UNSEEN = "warm light"
LARGEST_ERROR, LEAST_COVERAGE = 0.06, 0.9
FEW_CLASSES = 3


@dataclass(frozen=True)
class Score:
    """One window."""

    true: float
    estimated: float
    low: float
    high: float
    across: float  # by the regressor of the other model
    estimators: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    given = parser.parse_args()
    figures: Figures = {"windows": list(WINDOWS), "repetitions": REPETITIONS, "unseen_family": UNSEEN}  # type: ignore[dict-item]
    scores: dict[str, list[Score]] = {}
    with worlds(given.source, given.homes) as found:
        for name, world in found.items():
            (other,) = (each for each in found.values() if each.name != name)
            for kind, scored in measure(world, other).items():
                figures[f"{name} | {kind}"] = summary(scored)
                scores.setdefault(kind, []).extend(scored)
                print(name, kind, figures[f"{name} | {kind}"], flush=True)
    write_result(claim_of(figures, scores))


def claim_of(figures: Figures, scores: dict[str, list[Score]]) -> Claim:
    corrupted = [score for family in (*CORRUPTIONS, UNSEEN) for score in scores[family]]
    whole = summary(corrupted)
    rows = {name: each for name, each in figures.items() if isinstance(each, dict)}
    plain = {name: each for name, each in figures.items() if name not in rows}
    noise = summary(scores["gaussian noise"])
    head: Figures = {
        "mean_absolute_error": whole["mean_absolute_error"],
        "coverage_90": whole["coverage_90"],
        "coverage_90_noise": noise["coverage_90"],
        f"coverage_90_{UNSEEN.replace(' ', '_')}": summary(scores[UNSEEN])["coverage_90"],
    }
    return Claim(
        name="accuracy_estimate",
        claim="On corruptions of families that it was not fitted on, the estimated accuracy is off by "
        f"{LARGEST_ERROR:.0%} at most on average, and its 90 % interval covers the true one in {LEAST_COVERAGE:.0%} of "
        "windows or more.",
        command="make bench NAME=accuracy_estimate SOURCE=/path/to/cifar10",
        figures={**head, **plain, "estimates": table_of(rows)},
        holds=float(whole["mean_absolute_error"]) <= LARGEST_ERROR and float(whole["coverage_90"]) >= LEAST_COVERAGE,
    )


def measure(world: World, other: World) -> dict[str, list[Score]]:
    random, found = np.random.default_rng(0), {}
    for family in (*CORRUPTIONS, UNSEEN):
        baseline, across = baseline_of(world, family), baseline_of(other, family).regressor
        found[family] = [
            _score(baseline, across, moved.take(random.permutation(len(moved))[:window]))
            for moved in _conditions(world, family)
            for window in WINDOWS
            for _ in range(REPETITIONS)
        ]
    baseline, across = baseline_of(world), baseline_of(other).regressor
    clean = world.clean.take(slice(world.reference_images, len(world.clean) - len(world.changed)))
    kinds: dict[str, list[NDArray[np.float64] | None]] = {
        "clean": [None] * REPETITIONS,
        "three classes": [few(random, baseline.classes) for _ in range(REPETITIONS)],
        "Dirichlet(1) of classes": [random.dirichlet(np.ones(baseline.classes)) for _ in range(REPETITIONS)],
    }
    for kind, mixtures in kinds.items():
        found[kind] = [
            _score(baseline, across, clean.take(drawn(clean.labels, shares, window, random)), diagnosed=True)
            for window in WINDOWS
            for shares in mixtures
        ]
    return found


def baseline_of(world: World, without: str = "") -> Baseline:
    """As a deployment makes it, from images that no window is scored on."""
    border = world.reference_images
    reference = world.clean.take(slice(0, border - FITTED))
    tried = world.changed.take(slice(0, FITTED))
    return assemble(
        joined([reference.sample, tried.sample]),
        np.concatenate([reference.labels, tried.labels]),
        np.arange(border - FITTED, border),
        {
            name: moved.sample.take(slice(0, FITTED))
            for name, moved in world.conditions.items()
            if name not in BREAKAGES and name.rpartition(" ")[0] != without
        },
        {name: world.conditions[name].sample.take(slice(0, FITTED)) for name in BREAKAGES},
    )


def joined(samples: Sequence[Sample]) -> Sample:
    return Sample(
        np.concatenate([each.probabilities for each in samples]),
        np.concatenate([each.embeddings for each in samples]),
        np.concatenate([each.statistics for each in samples]),
    )


def drawn(
    labels: NDArray[np.int64], shares: NDArray[np.float64] | None, window: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Rows in which the classes have these shares; None for those that they have."""
    order = random.permutation(len(labels))
    if shares is None:
        return order[:window]
    counts = random.multinomial(window, shares)
    return np.concatenate([order[labels[order] == label][:count] for label, count in enumerate(counts)])


def few(random: np.random.Generator, classes: int) -> NDArray[np.float64]:
    shares = np.zeros(classes)
    shares[random.permutation(classes)[:FEW_CLASSES]] = 1 / FEW_CLASSES
    return shares


def _conditions(world: World, family: str) -> list[Labelled]:
    scored = slice(FITTED, None)
    if family != UNSEEN:
        return [world.conditions[f"{family} {severity}"].take(scored) for severity in ALL_SEVERITIES]
    labels = world.changed.labels[scored]
    return [Labelled(ask(world, warm_light(world.images[scored], severity)), labels) for severity in ALL_SEVERITIES]


def warm_light(images: NDArray[np.uint8], severity: int) -> NDArray[np.uint8]:
    """As under a lamp: red gains what blue loses, a tenth a severity."""
    gain = np.array([1 + 0.1 * severity, 1.0, 1 - 0.1 * severity], np.float32)
    found: NDArray[np.uint8] = (images * gain).clip(0, 255).round().astype(np.uint8)
    return found


def _score(baseline: Baseline, across: Regressor, window: Labelled, *, diagnosed: bool = False) -> Score:
    found = estimate(baseline.regressor, baseline.yardstick, window.sample)
    if diagnosed:
        drift = measure_drift(baseline.drift, window.sample)
        found = diagnose(baseline, drift, found, window.sample, alarm=True, policy=DiagnosisPolicy()).estimate
    other = estimate(across, baseline.yardstick, window.sample)
    return Score(window.accuracy, found.value, found.low, found.high, other.value, found.estimators)


def summary(scores: Sequence[Score]) -> dict[str, float]:
    true = np.array([score.true for score in scores])

    def error(values: Sequence[float]) -> float:
        return round(float(np.abs(np.array(values) - true).mean()), 4)

    covered = [score.low <= score.true <= score.high for score in scores]
    return {
        "mean_absolute_error": error([score.estimated for score in scores]),
        "coverage_90": round(float(np.mean(covered)), 4),
        "half_width": round(float(np.mean([(score.high - score.low) / 2 for score in scores])), 4),
        "mean_absolute_error_other_model": error([score.across for score in scores]),
        **{f"{name}_error": error([score.estimators[name] for score in scores]) for name in ("ATC", "DoC")},
    }


if __name__ == "__main__":
    main()

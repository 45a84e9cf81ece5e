"""Does the alarm stay silent over a whole life in which nothing moves? Simulated deployments on real images.

A deployment draws its reference from images that the model never learned from, fits its projection on it as a training
does, and draws all its windows from the others: without replacement until none is left, then again in another order.
Nothing has moved, so every alarm is a false one. A life has 200 or 9,000 looks, a year of hours. Beside it what one
does without: Hotelling's two-sample test by the textbook, with an alarm at p < .05 at any look, and at p < .05 / looks.

A model that is nearly always sure is the hardest to watch, as a handful of doubts decide its means. Such a one is made
of the second: only images of which it is sure, but for 3 %, and its logits tripled.
"""

import argparse
import hashlib
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from benchmarks.monitoring_world import add_arguments, worlds
from benchmarks.results import Claim, Figures, table_of, write_result
from flywheel.data.measurements import STATISTICS
from flywheel.evaluation.statistics import wilson
from flywheel.identity import code_version, digest
from flywheel.model.reference import Projection, fit_projection
from flywheel.monitoring.alarm import SMALLEST_P, AlarmState, look, threshold_of, weight
from flywheel.monitoring.counts import events, p_of_counts
from flywheel.monitoring.drift import (
    REFERENCE_ERROR,
    Channel,
    ChannelReference,
    Drift,
    DriftReference,
    Floats,
    fit_drift_reference,
    input_features,
    p_values,
    prediction_features,
)
from flywheel.monitoring.sample import Sample
from flywheel.policies import AlarmPolicy
from flywheel.settings import PROJECT

LOOKS = (200, 9_000)
FIRST, SECOND, SURE = "airbench_small", "resnet10t", "resnet10t, nearly always sure"
CELLS = {  # images of the reference, images a window, looks
    FIRST: (
        (1_000, 100, 9_000),
        (5_000, 100, 9_000),
        (1_000, 1_000, 200),
        (5_000, 1_000, 200),
        (150, 30, 9_000),
        (500, 500, 200),
    ),
    SECOND: ((1_000, 100, 9_000),),
    SURE: ((1_000, 100, 9_000), (150, 30, 9_000)),
}
CONFIDENT, DOUBTFUL_SHARE, SHARPER = 0.9, 0.03, 3
DEPLOYMENTS = 1_000
NAIVE = 0.05
STATISTICS_COMPARED = len(STATISTICS) - 1


@dataclass(frozen=True)
class Life:
    """One deployment: the first look at which each rule raised an alarm, 0 where it never did."""

    alarm: int
    naive: int
    bonferroni: int  # over the looks of this life, known in advance


@dataclass(frozen=True)
class Task:
    """Deployments of one cell that one process simulates."""

    reference: int
    window: int
    looks: int
    seeds: range


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--deployments", type=int, default=DEPLOYMENTS)
    given = parser.parse_args()
    figures: Figures = {"deployments_a_cell": given.deployments, "budget": AlarmPolicy().false_alarm_budget}
    with worlds(given.source, given.homes) as found:
        samples = {name: world.clean.sample for name, world in found.items()}
    for name, sample in (samples | {SURE: nearly_sure(samples[SECOND])}).items():
        for reference, window, looks in CELLS[name]:
            lives = _kept_or_simulated(given.homes, sample, Task(reference, window, looks, range(given.deployments)))
            for until in LOOKS:
                if until <= looks:
                    cell = f"{name} | reference {reference} | window {window} | looks {until}"
                    figures[cell] = summary(lives, until)
                    print(cell, figures[cell], flush=True)
    print(write_result(claim_of(figures)))


def _kept_or_simulated(homes: Path | None, sample: Sample, whole: Task) -> list[Life]:
    """A cell takes minutes: what was simulated by this very code, of these very images, isn't simulated again."""
    if homes is None:
        return simulate(sample, whole)
    of = [
        *(whole.reference, whole.window, whole.looks, len(whole.seeds)),
        code_version(PROJECT, ("flywheel/monitoring", "flywheel/model/reference.py", "benchmarks/drift_lifetime.py")),
        hashlib.sha256(sample.probabilities.tobytes() + sample.embeddings.tobytes()).hexdigest(),
    ]
    file = homes / f"lives-{digest(of)[:12]}.json"
    if not file.is_file():
        lives = simulate(sample, whole)
        file.write_text(json.dumps([asdict(life) for life in lives]), encoding="utf-8")
    return [Life(**life) for life in json.loads(file.read_text(encoding="utf-8"))]


def nearly_sure(sample: Sample) -> Sample:
    confident = sample.probabilities.max(1) > CONFIDENT
    random, doubtful = np.random.default_rng(0), np.flatnonzero(~confident)
    few = random.choice(doubtful, int(confident.sum() * DOUBTFUL_SHARE), replace=False)
    chosen = sample.take(np.concatenate([np.flatnonzero(confident), few]))
    sharper = chosen.probabilities.astype(np.float64) ** SHARPER
    return replace(chosen, probabilities=(sharper / sharper.sum(1, keepdims=True)).astype(np.float32))


def claim_of(figures: Figures) -> Claim:
    rows = {name: each for name, each in figures.items() if isinstance(each, dict)}
    plain = {name: each for name, each in figures.items() if name not in rows}
    cells = list(rows.values())
    worst = max(float(str(each["any_false_alarm"])) for each in cells)
    high = max(float(str(each["any_false_alarm_high"])) for each in cells)
    naive = min(float(str(each["naive_any_false_alarm"])) for each in cells)
    head = {"any_false_alarm": worst, "any_false_alarm_high": high, "naive_any_false_alarm": naive}
    return Claim(
        name="drift_lifetime",
        claim="Over lives of 200 and of 9,000 looks at real images in which nothing moved, the share of deployments "
        "with any false alarm stays within the budget, by the upper end of its interval.",
        command="make bench NAME=drift_lifetime SOURCE=/path/to/cifar10",
        figures={**head, **plain, "lifetimes": table_of(rows)},
        holds=high <= float(str(figures["budget"])),
    )


def simulate(sample: Sample, whole: Task) -> list[Life]:
    processes, deployments = os.cpu_count() or 1, len(whole.seeds)
    step = ceil(deployments / (4 * processes))
    tasks = [replace(whole, seeds=whole.seeds[first : first + step]) for first in range(0, deployments, step)]
    with ProcessPoolExecutor(processes, initializer=_take, initargs=(sample,)) as pool:
        return [life for lives in pool.map(_lives, tasks) for life in lives]


@dataclass(frozen=True)
class Rows:
    """All images of a sample, once for all deployments."""

    sample: Sample
    features: NDArray[np.float32]  # [N, 6 statistics + K embedding + predictions]
    border: int  # where the predictions begin


_rows: list[Rows] = []


def _take(sample: Sample) -> None:
    statistics, predictions = input_features(sample)[:, :STATISTICS_COMPARED], prediction_features(sample)
    features = np.hstack([statistics, sample.embeddings, predictions]).astype(np.float32)
    _rows[:] = [Rows(sample, features, STATISTICS_COMPARED + sample.embeddings.shape[1])]


def _lives(task: Task) -> list[Life]:
    """Every alarm of many deployments at once; the first one's by the alarm's own code, to be sure."""
    found, textbook = zip(*(live(_rows[0], task, seed) for seed in task.seeds), strict=True)
    alarms = alarms_at(np.stack(found))
    assert alarms[0] == alarm_of(found[0])
    return [
        Life(int(alarm), _first(naive < NAIVE), _first(naive < NAIVE / (2 * task.looks)))
        for alarm, naive in zip(alarms, textbook, strict=True)
    ]


def live(rows: Rows, task: Task, seed: int) -> tuple[Floats, Floats]:
    """p[channel, look] of a deployment, and the smaller p[look] of the textbook's."""
    random = np.random.default_rng([seed, task.reference, task.window])
    order = random.permutation(len(rows.sample))
    own, rest = rows.sample.take(order[: task.reference]), order[task.reference :]
    projection = fit_projection(own.embeddings)
    reference = fit_drift_reference(replace(own, embeddings=projection.apply(own.embeddings)))
    means = _means(_averaged(rows, reference, projection), rest, task, random)
    first, second = np.split(means, [reference.input.dimensions], axis=1)
    return _p(reference, first, second, task.window), _textbook(reference, first, second, task)


def _averaged(rows: Rows, reference: DriftReference, projection: Projection) -> NDArray[np.float32]:
    """What is averaged over a window: both channels, whitened, beside each other."""
    inputs, predictions = rows.features[:, : rows.border], rows.features[:, rows.border :]
    kept = len(reference.input.mean) - STATISTICS_COMPARED
    through = np.zeros((rows.border, len(reference.input.mean)))  # statistics as they are, embeddings projected
    through[:STATISTICS_COMPARED, :STATISTICS_COMPARED] = np.eye(STATISTICS_COMPARED)
    through[STATISTICS_COMPARED:, STATISTICS_COMPARED:] = projection.components[:kept].T
    middle = np.concatenate([np.zeros(STATISTICS_COMPARED), projection.components[:kept] @ projection.mean])
    parts = [_affine(inputs, through @ reference.input.whitening, reference.input.mean + middle, reference.input)]
    if reference.prediction.dimensions:
        channel = reference.prediction
        parts.append(_affine(predictions, channel.whitening, channel.mean, channel))
    else:
        parts.append(events(reference.counts, rows.sample.probabilities).astype(np.float32))
    return np.hstack(parts)


def _affine(
    values: NDArray[np.float32], matrix: Floats, centre: Floats, channel: ChannelReference
) -> NDArray[np.float32]:
    found: NDArray[np.float32] = values @ matrix.astype(np.float32) - (centre @ channel.whitening).astype(np.float32)
    return found


def _means(rows: NDArray[np.float32], rest: NDArray[np.int64], task: Task, random: np.random.Generator) -> Floats:
    """float64[looks, F] of windows; an image is in a second one only when all have been in one."""
    found: list[NDArray[np.float32]] = []
    a_turn, ones = len(rest) // task.window, np.full((1, task.window), 1 / task.window, np.float32)
    while sum(map(len, found)) < task.looks:
        drawn = rows[random.permutation(rest)[: a_turn * task.window]]
        found.append((ones @ drawn.reshape(a_turn, task.window, -1))[:, 0])
    return np.concatenate(found)[: task.looks].astype(np.float64)


def _p(reference: DriftReference, first: Floats, second: Floats, window: int) -> Floats:
    """float64[channels, looks], as `measure_drift` has them."""
    of_input = p_values(reference.input, window * (first**2).sum(1), window)
    if reference.prediction.dimensions:
        return np.stack([of_input, p_values(reference.prediction, window * (second**2).sum(1), window)])
    counts = np.rint(second * window).astype(np.int64)
    return np.stack([of_input, p_of_counts(reference.counts, counts, window, REFERENCE_ERROR)])


def _textbook(reference: DriftReference, first: Floats, second: Floats, task: Task) -> Floats:
    """The smaller p a look, of T² between two samples that are both drawn anew at each look."""
    found, harmonic = [], task.window * task.reference / (task.window + task.reference)
    for channel, means in ((reference.input, first), (reference.prediction, second)):
        if channel.dimensions:
            found.append(chi2.sf(harmonic * (means**2).sum(1), channel.dimensions))
    smallest: Floats = np.min(found, axis=0)
    return smallest


def alarms_at(p: Floats) -> NDArray[np.int64]:
    """Of p[deployment, channel, look]: the first look at which each alarms, 0 for never."""
    bounded = np.clip(p, SMALLEST_P, 1 - 1e-9)
    logarithm = np.log(bounded)
    values = (1 - bounded + bounded * logarithm) / (bounded * logarithm**2)
    threshold, evidence = threshold_of(AlarmPolicy(), p.shape[1]), np.zeros(p.shape[:2])
    first = np.zeros(len(p), np.int64)
    for number in range(1, p.shape[2] + 1):
        evidence = np.minimum((evidence + weight(number)) * values[:, :, number - 1], 1e300)
        first[(first == 0) & (evidence.mean(1) >= threshold)] = number
    return first


def alarm_of(p: Floats) -> int:
    """The same of one deployment, by `look`."""
    state = AlarmState()
    for at in p.T:
        channels = [
            Channel(name, float(each), 0.0, 0.0, 0.0) for name, each in zip(("input", "prediction"), at, strict=True)
        ]
        state, _ = look(state, Drift(0, *channels, ()), AlarmPolicy())
    return state.alarmed_at or 0


def _first(found: NDArray[np.bool_]) -> int:
    return int(found.argmax()) + 1 if found.any() else 0


def summary(lives: list[Life], until: int) -> dict[str, float]:
    def share(rule: str) -> tuple[float, float]:
        count = sum(0 < getattr(life, rule) <= until for life in lives)
        return count / len(lives), wilson(count, len(lives)).high

    (alarm, high), (naive, _), (bonferroni, _) = (share(rule) for rule in ("alarm", "naive", "bonferroni"))
    return {
        "any_false_alarm": round(alarm, 4),
        "any_false_alarm_high": round(high, 4),
        "naive_any_false_alarm": round(naive, 4),
        "bonferroni_any_false_alarm": round(bonferroni, 4),
    }


if __name__ == "__main__":
    main()

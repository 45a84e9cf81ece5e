"""Are poisoned labels caught, and honest ones believed, also under drift? Real images, answered by real models.

Labels are judged as `retrain-classifier` judges them: against the accuracy that monitoring, whose estimator never saw
the corruption's family, gives for a window of the traffic. An attacker and an honest person label the same traffic at
once, each other images of it. The honest one gives the true class always, so it disagrees wherever the model errs; it
is tried over several days, too, and with the images that the queue asks for. Three attackers: one calls everything
one class; one calls a class another until a tenth of its labels are such lies, or no image of the class is left; one
draws 30 % of its labels at random, over five days. Under "drift" every image is corrupted; under "one camera" every
second, and only these are labelled, as the one who stands at the broken camera would.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy_estimate import FITTED, baseline_of, drawn, few, joined
from benchmarks.monitoring_world import Labelled, World, add_arguments, worlds
from benchmarks.results import Claim, table_of, write_result
from flywheel.evaluation.corruptions import CORRUPTIONS
from flywheel.evaluation.statistics import wilson
from flywheel.labels.plausibility import Expected, OwnShare, expected, findings, own_share
from flywheel.labels.queue import choose
from flywheel.ledger.labelled import LabelledAnswer
from flywheel.monitoring.accuracy_estimate import estimate
from flywheel.monitoring.baseline import Baseline
from flywheel.monitoring.diagnosis import diagnose
from flywheel.monitoring.drift import measure_drift
from flywheel.policies import DiagnosisPolicy, LabelPolicy

BATCHES = (30, 100, 300, 600)
WINDOW = 500  # answers that the estimate is made of
SEVERITIES = (1, 3, 5)
REPETITIONS = 3  # a corruption and severity
CLEAN_REPETITIONS = 60
DAYS = 5
LIES = 0.1  # of the labels, that the second attacker tells
NOISE = 0.3  # of the labels, that the third draws
MONDAY = datetime(2026, 1, 5, 9, tzinfo=UTC)
HONEST, OVER_DAYS, ASKED, MODEL = "honest", "honest, over days", "honest, asked for", "model"
JUDGED, LEAST_CAUGHT = 300, 0.8  # labels, as many as a retraining waits for; share of batches

Rows = NDArray[np.int64]
Attack = Callable[[Rows, int, np.random.Generator], Rows]


@dataclass(frozen=True)
class Traffic:
    """Images of one kind, and what is known of the model on them."""

    kind: str
    case: str
    images: Labelled
    known: Expected
    own: OwnShare
    reference: NDArray[np.float32]  # embeddings


@dataclass(frozen=True)
class Tried:
    """One source's labels, judged."""

    who: str
    kind: str
    case: str
    labels: int
    condemned: bool
    rules: frozenset[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    given = parser.parse_args()
    tried: list[Tried] = []
    with worlds(given.source, given.homes) as found:
        for world in found.values():
            tried += [each for traffic in traffics(world) for each in play(traffic, world)]
            print(world.name, f"{len(tried):,} batches judged", flush=True)
    write_result(claim_of(tried))


def one_class(labels: Rows, classes: int, random: np.random.Generator) -> Rows:
    return np.full(len(labels), random.integers(classes))


def one_pair(labels: Rows, classes: int, random: np.random.Generator) -> Rows:
    """Of a class that is there: where it has fewer images than lies are wanted, all of them."""
    told = random.choice(labels)
    other = (told + random.integers(1, classes)) % classes
    lies = random.permutation(np.flatnonzero(labels == told))[: round(LIES * len(labels))]
    found = labels.copy()
    found[lies] = other
    return found


def some_random(labels: Rows, classes: int, random: np.random.Generator) -> Rows:
    drawn_at = random.permutation(len(labels))[: round(NOISE * len(labels))]
    found = labels.copy()
    found[drawn_at] = random.integers(classes, size=len(drawn_at))
    return found


ATTACKS: dict[str, tuple[Attack, int]] = {  # and over how many days
    "one class": (one_class, 1),
    "a as b in 10 %": (one_pair, 1),
    "random in 30 %": (some_random, DAYS),
}


def traffics(world: World) -> Iterator[Traffic]:
    """Clean, drifted, of other shares of the classes, and what the queue asks for."""
    random = np.random.default_rng(0)
    whole = baseline_of(world)
    clean = world.clean.take(slice(world.reference_images, len(world.clean) - len(world.changed)))
    for _ in range(CLEAN_REPETITIONS):
        yield _traffic("clean", "clean", clean.take(random.permutation(len(clean))[:4_000]), whole, random)
    for _ in range(CLEAN_REPETITIONS // 3):
        rows = drawn(clean.labels, few(random, whole.classes), 2_500, random)
        yield _traffic("three classes", "three classes", clean.take(random.permutation(rows)), whole, random)
    for family in CORRUPTIONS:
        baseline = baseline_of(world, family)
        for severity in SEVERITIES:
            moved = world.conditions[f"{family} {severity}"].take(slice(FITTED, None))
            for _ in range(REPETITIONS):
                yield _traffic(f"drift {severity}", f"{family} {severity}", moved, baseline, random)
                yield _traffic(f"one camera {severity}", f"{family} {severity}", moved, baseline, random, clean)


def _traffic(
    kind: str,
    case: str,
    images: Labelled,
    baseline: Baseline,
    random: np.random.Generator,
    beside: Labelled | None = None,
) -> Traffic:
    """`beside` is the other half of the traffic, which nobody labels."""
    images = images.take(random.permutation(len(images)))
    window = images.take(slice(0, WINDOW)).sample
    if beside is not None:
        rest = beside.take(random.permutation(len(beside))[: WINDOW // 2]).sample
        window = joined([window.take(slice(0, WINDOW - WINDOW // 2)), rest])
    drift, guess = measure_drift(baseline.drift, window), estimate(baseline.regressor, baseline.yardstick, window)
    found = diagnose(baseline, drift, guess, window, alarm=True, policy=DiagnosisPolicy()).estimate
    confidence = float(window.probabilities.max(1).mean())
    known = expected(found.low, confidence, baseline.sample.predicted, baseline.labels, baseline.classes)
    own = own_share(baseline, MODEL, found.low)
    return Traffic(kind, case, images, known, own, baseline.sample.embeddings)


def play(traffic: Traffic, world: World) -> Iterator[Tried]:
    """Every attacker with an honest one beside, and honest ones alone: over days, and with what the queue asks for."""
    random = np.random.default_rng(len(traffic.images))
    classes = tuple(f"class {number}" for number in range(world.clean.sample.probabilities.shape[1]))
    labels = traffic.images.labels
    for count in BATCHES:
        for name, (attack, days) in ATTACKS.items():
            mine, other = np.split(random.permutation(len(labels))[: 2 * count], 2)
            lies = _batch(name, traffic.images, other, attack(labels[other], len(classes), random), classes, days)
            judged = _judged(_batch(HONEST, traffic.images, mine, labels[mine], classes, 1) + lies, traffic, classes)
            yield _tried(name, traffic, count, judged)
            yield _tried(HONEST, traffic, count, judged)
        rows = random.permutation(len(labels))[:count]
        over = _batch(OVER_DAYS, traffic.images, rows, labels[rows], classes, DAYS)
        yield _tried(OVER_DAYS, traffic, count, _judged(over, traffic, classes))
        queued = _asked(traffic, random.permutation(len(labels))[: 5 * count], count)
        asked = _batch(ASKED, traffic.images, queued, labels[queued], classes, 1)
        yield _tried(ASKED, traffic, count, _judged(asked, traffic, classes))


def _asked(traffic: Traffic, rows: Rows, count: int) -> Rows:
    sample = traffic.images.sample.take(rows)
    return rows[choose(sample.probabilities, sample.embeddings, traffic.reference, count)]


def _batch(
    who: str, images: Labelled, rows: Rows, labels: Rows, classes: tuple[str, ...], days: int
) -> list[LabelledAnswer]:
    predicted = images.sample.predicted
    return [
        LabelledAnswer(
            position=int(row),
            prediction_id=f"{row}",
            label=classes[label],
            source=who,
            client="",
            at=MONDAY + timedelta(days=place % days),
            asked="",
            model_id=MODEL,
            predicted=int(predicted[row]),
            image_id=f"{row}",
            probabilities=images.sample.probabilities[row],
            embedding=images.sample.embeddings[row].astype(np.float16).tobytes(),
            statistics=images.sample.statistics[row].tobytes(),
        )
        for place, (row, label) in enumerate(zip(rows.tolist(), labels.tolist(), strict=True))
    ]


def _judged(batch: list[LabelledAnswer], traffic: Traffic, classes: tuple[str, ...]) -> dict[str, frozenset[str]]:
    """Who is condemned → by which rules."""
    found: dict[str, set[str]] = {}
    for finding in findings(batch, classes, traffic.known, LabelPolicy(), traffic.own):
        found.setdefault(finding.who, set()).add(finding.rule)
    return {who: frozenset(rules) for who, rules in found.items()}


def _tried(who: str, traffic: Traffic, count: int, judged: dict[str, frozenset[str]]) -> Tried:
    return Tried(who, traffic.kind, traffic.case, count, who in judged, judged.get(who, frozenset()))


def claim_of(tried: list[Tried]) -> Claim:
    honest = _share([each for each in tried if each.who not in ATTACKS])
    by_drift = _share(
        [each for each in tried if each.who not in ATTACKS and each.kind not in ("clean", "three classes")]
    )
    caught = {
        name: _share([each for each in tried if (each.who, each.kind, each.labels) == (name, "clean", JUDGED)])
        for name in ATTACKS
    }
    rows: dict[str, list[Tried]] = {}
    for each in tried:
        rows.setdefault(f"{each.who} | {each.kind} | {each.labels:,}", []).append(each)
    level, shares = LabelPolicy().implausible_level, table_of(_shares(tried))
    return Claim(
        name="label_poisoning",
        claim=f"Of all honest batches of labels, most of them under real drift, {level:.0%} at most are set aside; "
        f"of an attacker's {JUDGED} labels on clean traffic, whichever of three ways they lie, {LEAST_CAUGHT:.0%} or "
        "more are caught.",
        command="make bench NAME=label_poisoning SOURCE=/path/to/cifar10",
        figures={
            **{f"honest_{name}": value for name, value in honest.items()},
            **{f"honest_under_drift_{name}": value for name, value in by_drift.items()},
            **{
                f"caught_{name.replace(' %', '').replace(' ', '_')}_{cell}": value
                for name, cells in caught.items()
                for cell, value in cells.items()
            },
            "honest_worst_row": max(share for name, share in shares.items() if name.split(" | ")[-1] not in ATTACKS),
            "level": level,
            "shares": shares,
            "batches": table_of({name: _share(some) for name, some in rows.items()}),
        },
        holds=honest["set_aside_high"] <= level and all(each["set_aside"] >= LEAST_CAUGHT for each in caught.values()),
    )


def _shares(tried: list[Tried]) -> dict[str, dict[str, float]]:
    """Of batches that were set aside: a row a traffic and size, a column a source."""
    found: dict[str, dict[str, list[bool]]] = {}
    for each in tried:
        row = found.setdefault(f"{each.kind} | {each.labels}", {})
        row.setdefault(each.who, []).append(each.condemned)
    return {name: {who: round(float(np.mean(some)), 3) for who, some in row.items()} for name, row in found.items()}


def _share(tried: list[Tried]) -> dict[str, float]:
    """Of batches, with its 95 % interval."""
    found = wilson(sum(each.condemned for each in tried), len(tried))
    rounded = {"set_aside": found.value, "set_aside_low": found.low, "set_aside_high": found.high}
    return {"batches": len(tried), **{name: round(value, 4) for name, value in rounded.items()}}


if __name__ == "__main__":
    main()

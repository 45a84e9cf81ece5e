"""How many images until the alarm, once something moves? Real images, corrupted in seven ways at five severities.

A deployment has looked at clean windows for a while; then all of its images are corrupted. Beside the delay stands what
the corruption costs in accuracy, and two other detectors on the same windows: Kolmogorov-Smirnov with Bonferroni's
correction at p < .05, by the library frouros, which has no budget over looks and so raises false alarms as well; and
the same p-values as ours against p < .05 / 9,000 / channels, a budget for a year of hours known in advance.

The same again with a reference of 1,000 images, a tenth of 10,000, and there other shares of the classes too: one
class takes the place of 10, 20 or 30 % of the images.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.drift_lifetime import alarms_at
from benchmarks.monitoring_world import Labelled, World, add_arguments, worlds
from benchmarks.peers import PEERS, python_of
from benchmarks.results import Claim, Figures, table_of, write_result
from flywheel.evaluation.corruptions import ALL_SEVERITIES, CORRUPTIONS
from flywheel.monitoring.drift import (
    DriftReference,
    Floats,
    fit_drift_reference,
    input_features,
    p_values,
    prediction_features,
    t_squared,
)
from flywheel.monitoring.sample import Sample

WINDOWS = (100, 250, 500, 1_000)
HISTORY = 200  # clean looks before it begins
LATE = 8_000  # the same near the end of a year of hours, for windows of 100
REPETITIONS = 20
LONGEST = 40  # corrupted looks, then it counts as not found
YEAR = 9_000
LEVEL = 0.05
PEER_WINDOW, PEER_WINDOWS, PEER_CLEAN = 500, 10, 200
HARM = 0.10  # of accuracy: what costs so much must be found soon
SOON = 3  # windows of 500
SMALL = 1_000  # images of a small reference
SHARES = (0.1, 0.2, 0.3)
MORE = 3  # the class that takes the place of others

Cell = dict[str, float | int | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    given = parser.parse_args()
    figures: Figures = {"repetitions": given.repetitions, "history": HISTORY, "longest": LONGEST}
    small: dict[str, Cell] = {}
    with worlds(given.source, given.homes) as found:
        for name, world in found.items():
            figures |= {f"{name} | {key}": value for key, value in measure(world, given.repetitions).items()}
            print(f"{name}, a reference of {SMALL:,}", flush=True)
            small |= {f"{name} | {key}": value for key, value in measure_small(world, given.repetitions).items()}
    write_result(claim_of(figures, small))


def measure(world: World, repetitions: int) -> dict[str, Cell]:
    reference, clean = _apart(world)
    drift = fit_drift_reference(reference)
    corrupted = _corrupted(world)
    peers = _peer(reference, clean, {name: each.sample for name, each in corrupted.items()})
    figures: dict[str, Cell] = {"clean": {"frouros": peers[""]}}
    before = world.changed.accuracy
    plans = [(window, HISTORY) for window in WINDOWS] + [(WINDOWS[0], LATE)]
    histories = {(window, looks): _histories(drift, clean, window, looks, repetitions) for window, looks in plans}
    for condition, moved in corrupted.items():
        cell: Cell = {"accuracy_lost": round(before - moved.accuracy, 4)}
        for window in WINDOWS:
            looks = _looks(drift, histories[window, HISTORY], moved.sample, window)
            cell[f"{window} a window"] = _median([each[0] for each in looks], window)
            cell[f"Bonferroni, {window}"] = _median([each[1] for each in looks], window)
            cell[f"found, {window}"] = sum(each[0] is not None for each in looks) / len(looks)
        late = _looks(drift, histories[WINDOWS[0], LATE], moved.sample, WINDOWS[0])
        cell[f"{WINDOWS[0]} a window, after {LATE:,} looks"] = _median([each[0] for each in late], WINDOWS[0])
        cell["frouros"] = peers[condition]
        figures[condition] = cell
        print(condition, cell, flush=True)
    return figures


def measure_small(world: World, repetitions: int) -> dict[str, Cell]:
    reference, clean = _apart(world)
    drift = fit_drift_reference(reference.take(slice(0, SMALL)))
    histories = {window: _histories(drift, clean, window, HISTORY, repetitions) for window in WINDOWS}
    before, figures = world.changed.accuracy, {}
    shifted = {f"a class for {share:.0%}": _class_shift(world, share) for share in SHARES}
    for condition, moved in {**_corrupted(world), **shifted}.items():
        cell: Cell = {"accuracy_lost": round(before - moved.accuracy, 4)}
        for window in WINDOWS:
            looks = _looks(drift, histories[window], moved.sample, window)
            cell[f"{window} a window"] = _median([each[0] for each in looks], window)
        figures[condition] = cell
        print(condition, cell, flush=True)
    return figures


def _corrupted(world: World) -> dict[str, Labelled]:
    names = [f"{corruption} {severity}" for corruption in CORRUPTIONS for severity in ALL_SEVERITIES]
    return {name: world.conditions[name] for name in names}


def _class_shift(world: World, share: float) -> Labelled:
    """As many images as are corrupted, of which one class has taken the place of a share."""
    random, images = np.random.default_rng(0), world.clean.take(slice(world.reference_images, None))
    count = len(world.changed)
    more = random.choice(np.flatnonzero(images.labels == MORE), int(count * share), replace=False)
    return images.take(np.concatenate([more, random.choice(len(images), count - len(more), replace=False)]))


def claim_of(figures: Figures, small: dict[str, Cell]) -> Claim:
    rows = {name: each for name, each in figures.items() if isinstance(each, dict)}
    plain = {name: each for name, each in figures.items() if name not in rows}
    harmful = [each for each in rows.values() if float(each.get("accuracy_lost", 0)) >= HARM]
    key = f"{PEER_WINDOW} a window"
    slow = [each for each in harmful if each[key] is None or float(each[key]) > SOON * PEER_WINDOW]
    delays = [float(each[key]) for each in harmful if each[key] is not None]
    head: Figures = {
        "harmful_conditions": len(harmful),
        "harmful_found_late_or_never": len(slow),
        "median_images_until_alarm_harmful": float(np.median(delays)),
        "frouros_clean": max(float(each["frouros"]) for name, each in rows.items() if name.endswith("clean")),
    }
    return Claim(
        name="drift_delay",
        claim=f"Whatever costs {HARM:.0%} of accuracy or more raises the alarm within {SOON} windows of {PEER_WINDOW} "
        f"images, in the median deployment.",
        command="make bench NAME=drift_delay SOURCE=/path/to/cifar10",
        figures={**head, **plain, "delays": table_of(rows), "delays_small_reference": table_of(small)},
        holds=bool(harmful) and not slow,
    )


def _apart(world: World) -> tuple[Sample, Sample]:
    """The model's own reference side, and clean images that are neither in it nor among those that are corrupted."""
    sample, border = world.clean.sample, world.reference_images
    return sample.take(slice(0, border)), sample.take(slice(border, len(sample) - len(world.changed)))


def _histories(drift: DriftReference, clean: Sample, window: int, looks: int, repetitions: int) -> list[Floats]:
    """The p-values of clean lives until it begins."""
    return [_p(drift, clean, window, looks, np.random.default_rng([seed, window])) for seed in range(repetitions)]


def _looks(
    drift: DriftReference, histories: list[Floats], moved: Sample, window: int
) -> list[tuple[int | None, int | None]]:
    """For each history, the corrupted window of the alarm and that of Bonferroni's rule, from 1; None for never."""
    afters = [_p(drift, moved, window, LONGEST, np.random.default_rng([s, window, 1])) for s in range(len(histories))]
    history = histories[0].shape[1]
    lives = np.stack([np.hstack([before, after]) for before, after in zip(histories, afters, strict=True)])
    # an alarm in the clean history is none for what comes after
    alarms = [int(at) - history if at > history else None for at in alarms_at(lives)]
    bonferroni = [_first(after.min(0) < LEVEL / YEAR / len(after)) for after in afters]
    return list(zip(alarms, bonferroni, strict=True))


def _p(drift: DriftReference, sample: Sample, window: int, looks: int, random: np.random.Generator) -> Floats:
    """float64[channels, looks]; an image is in a second window only when all have been in one."""
    parts = (input_features(sample), prediction_features(sample))
    a_turn, rows = len(sample) // window, []
    while len(rows) * a_turn < looks:
        rows.append(random.permutation(len(sample))[: a_turn * window])
    found = []
    for channel, values in zip((drift.input, drift.prediction), parts, strict=True):
        turns = [values[each].reshape(a_turn, window, -1).mean(1) for each in rows]
        means = np.concatenate(turns)[:looks]
        found.append(p_values(channel, t_squared(channel, means, window), window))
    return np.stack(found)


def _first(found: NDArray[np.bool_]) -> int | None:
    return int(found.argmax()) + 1 if found.any() else None


def _median(windows: list[int | None], window: int) -> int | None:
    """In images; None where half of the deployments or more never found it."""
    ordered = sorted(LONGEST + 1 if each is None else each for each in windows)
    middle = ordered[len(ordered) // 2]
    return None if middle > LONGEST else middle * window


def _peer(reference: Sample, clean: Sample, moved: dict[str, Sample]) -> dict[str, float]:
    """The share of windows that frouros' test calls drifted, by condition; "" for clean ones."""
    python, random = python_of("frouros"), np.random.default_rng(1)
    windows, names = [], []
    for name, sample in {"": clean, **moved}.items():
        features = _features(sample)
        for _ in range(PEER_WINDOWS if name else PEER_CLEAN):
            windows.append(features[random.permutation(len(sample))[:PEER_WINDOW]])
            names.append(name)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "windows.npz"
        np.savez(file, reference=_features(reference), windows=np.stack(windows))
        command = [str(python), str(PEERS / "frouros_ks.py"), str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    drifted, of = np.array(json.loads(done.stdout)) < LEVEL, np.array(names)
    return {name: float(drifted[of == name].mean()) for name in ("", *moved)}


def _features(sample: Sample) -> Floats:
    return np.hstack([input_features(sample), prediction_features(sample)])


if __name__ == "__main__":
    main()

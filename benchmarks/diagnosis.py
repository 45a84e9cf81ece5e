"""Does the diagnosis name what was done to the images? Windows of one cause each, all after an alarm.

Corruptions are diagnosed by a baseline that never saw their family, on other images. Whether one was harmful is told by
the window's true labels against the policy's line; near the line, by two points, nobody is right or wrong. Patches of
photographs were not looked at while the rules were made; handwritten digits were. One patch in seven is plain sky or
shade, which shows as little as a broken camera's image.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy_estimate import FITTED, baseline_of, drawn, few, joined
from benchmarks.monitoring_world import Labelled, World, add_arguments, ask, worlds
from benchmarks.results import Claim, Figures, table_of, write_result
from flywheel.evaluation.corruptions import ALL_SEVERITIES, CORRUPTIONS
from flywheel.monitoring.accuracy_estimate import estimate
from flywheel.monitoring.baseline import Baseline
from flywheel.monitoring.breakages import BREAKAGES
from flywheel.monitoring.diagnosis import Cause, diagnose
from flywheel.monitoring.drift import measure_drift
from flywheel.policies import DiagnosisPolicy

WINDOWS = (250, 500, 1_000)
REPETITIONS = 5
NEAR = 0.02  # of the line between harmless and harmful
SHARES_OF_TRAFFIC = (0.5, 1.0)  # that a broken input is
FOREIGN_SHARES = (0.1, 0.3, 1.0)
LEAST_PRECISION, LEAST_BLOCKED = 0.95, 0.9

Confusion = dict[str, dict[str, int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    given = parser.parse_args()
    figures: Figures = {"windows": list(WINDOWS), "repetitions": REPETITIONS}  # type: ignore[dict-item]
    confusion: Confusion = {}
    with worlds(given.source, given.homes) as found:
        for name, world in found.items():
            own: Confusion = {}
            for truth, case, cause in diagnosed(world):
                for table in (confusion, own):
                    row = table.setdefault(truth, {})
                    row[cause] = row.get(cause, 0) + 1
                detail = figures.setdefault(f"{name} | {case}", {})
                detail[cause] = detail.get(cause, 0) + 1  # type: ignore[union-attr, index]
            print(name, own, flush=True)
    write_result(claim_of(figures, confusion))


def claim_of(figures: Figures, confusion: Confusion) -> Claim:
    harmful = str(Cause.HARMFUL)
    rows = {name: each for name, each in figures.items() if isinstance(each, dict)}
    plain = {name: each for name, each in figures.items() if name not in rows}
    told = {truth: row.get(harmful, 0) for truth, row in confusion.items()}
    all_harmful = sum(confusion.get(harmful, {}).values())
    broken = confusion.get(str(Cause.BROKEN), {})
    precision = told.get(harmful, 0) / max(sum(told.values()), 1)
    retrained = broken.get(harmful, 0) / max(sum(broken.values()), 1)
    blocked = broken.get(str(Cause.BROKEN), 0) / max(sum(broken.values()), 1)
    head: Figures = {
        "harmful_precision": round(precision, 4),
        "harmful_recall": round(told.get(harmful, 0) / max(all_harmful, 1), 4),
        "broken_blocked": round(blocked, 4),
        "broken_retrained": round(retrained, 4),
        "confusion": table_of(confusion),
    }
    return Claim(
        name="diagnosis",
        claim=f"Of the windows that are called harmful, {LEAST_PRECISION:.0%} or more are so, and a broken input "
        f"blocks retraining in {LEAST_BLOCKED:.0%} of windows or more.",
        command="make bench NAME=diagnosis SOURCE=/path/to/cifar10",
        figures={**head, **plain, "cases": table_of(rows)},
        holds=precision >= LEAST_PRECISION and blocked >= LEAST_BLOCKED,
    )


def diagnosed(world: World) -> Iterator[tuple[str, str, str]]:
    """Truth, case, and what the diagnosis said."""
    random, policy = np.random.default_rng(0), DiagnosisPolicy()

    def said(baseline: Baseline, window: Labelled) -> str:
        drift = measure_drift(baseline.drift, window.sample)
        found = estimate(baseline.regressor, baseline.yardstick, window.sample)
        return str(diagnose(baseline, drift, found, window.sample, alarm=True, policy=policy).cause)

    for family in CORRUPTIONS:
        baseline = baseline_of(world, family)
        for severity in ALL_SEVERITIES:
            moved = world.conditions[f"{family} {severity}"].take(slice(FITTED, None))
            for window in windows(moved, random):
                lost = baseline.accuracy.value - moved.accuracy
                if abs(lost - policy.largest_loss) >= NEAR:
                    truth = Cause.HARMFUL if lost > policy.largest_loss else Cause.HARMLESS
                    yield str(truth), f"{family} {severity}", said(baseline, window)
    baseline = baseline_of(world)
    clean = world.clean.take(slice(world.reference_images, len(world.clean) - len(world.changed)))
    for name in BREAKAGES:
        for share in SHARES_OF_TRAFFIC:
            moved = world.conditions[name].take(slice(FITTED, None))
            for window in windows(moved, random):
                mixed = _mixed(window, clean, share, random)
                yield str(Cause.BROKEN), f"{name}, {share:.0%}", said(baseline, mixed)
    for kind, shares in (("three classes", few), ("Dirichlet(1) of classes", _dirichlet)):
        for count in WINDOWS:
            for _ in range(REPETITIONS):
                window = clean.take(drawn(clean.labels, shares(random, baseline.classes), count, random))
                yield str(Cause.LABELS), kind, said(baseline, window)
    blank = _unlabelled(world, np.zeros((max(WINDOWS), *world.images.shape[1:]), np.uint8))
    for share in SHARES_OF_TRAFFIC:
        for window in windows(blank, random):
            yield str(Cause.BROKEN), f"black, {share:.0%}", said(baseline, _mixed(window, clean, share, random))
    for kind, foreign in (("digits", world.foreign), ("patches of photographs", _unlabelled(world, _patches(world)))):
        for share in FOREIGN_SHARES:
            for window in windows(foreign, random):
                yield str(Cause.NEW_KIND), f"{kind}, {share:.0%}", said(baseline, _mixed(window, clean, share, random))
    for window in windows(clean, random):
        yield "clean, which no alarm should bring here", "clean", said(baseline, window)


def windows(moved: Labelled, random: np.random.Generator) -> Iterator[Labelled]:
    for count in WINDOWS:
        for _ in range(REPETITIONS):
            yield moved.take(random.permutation(len(moved))[:count])


def _mixed(window: Labelled, clean: Labelled, share: float, random: np.random.Generator) -> Labelled:
    """As large a window, of which this share is as given and the rest clean."""
    kept = round(share * len(window))
    rest = clean.take(random.permutation(len(clean))[: len(window) - kept])
    first = window.take(slice(0, kept))
    return Labelled(joined([first.sample, rest.sample]), np.concatenate([first.labels, rest.labels]))


def _unlabelled(world: World, pixels: NDArray[np.uint8]) -> Labelled:
    return Labelled(ask(world, pixels), np.full(len(pixels), -1))


def _patches(world: World) -> NDArray[np.uint8]:
    """Of scikit-learn's two photographs, each patch half as large again as an image and scaled down to it."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    size = world.images.shape[1]
    side, step = size * 3 // 2, size // 2
    found = [
        np.asarray(Image.fromarray(photograph[top : top + side, left : left + side]).resize((size, size)))
        for photograph in load_sample_images().images
        for top in range(0, photograph.shape[0] - side, step)
        for left in range(0, photograph.shape[1] - side, step)
    ]
    return np.stack(found)


def _dirichlet(random: np.random.Generator, classes: int) -> NDArray[np.float64]:
    return random.dirichlet(np.ones(classes))


if __name__ == "__main__":
    main()

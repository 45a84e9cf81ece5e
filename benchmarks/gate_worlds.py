"""Whole evidence of a challenger whose truth is known in all that a gate looks at, its parts drawn to fit together.

8,000 frozen images of ten classes, each in a third by brightness, by contrast and by sharpness. Every group of images
of one class and the same thirds is drawn by who got them right; the total, the classes, the thirds, the part that is
corrupted and the calibration all come from these groups, so a challenger that was lucky is lucky in all of them.

The intervals of calibration, robustness and latency are taken to hold as often as they say: whether they do is measured
where they are made.
"""

from dataclasses import dataclass, replace
from math import exp, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from benchmarks.gate_simulation import CHALLENGER, CHAMPION, NEW, Counts
from flywheel.evaluation.evidence import (
    Comparison,
    CostEvidence,
    GateEvidence,
    LeakEvidence,
    PairedCounts,
    ParityEvidence,
    RobustnessEvidence,
    SliceCounts,
)
from flywheel.evaluation.spending import Use
from flywheel.evaluation.statistics import wilson
from flywheel.records import ClassResult, Evaluation, Interval

IMAGES = 8000
CLASSES = 10
THIRDS = 3
STATISTICS = ("brightness", "contrast", "sharpness")
GROUPS = (CLASSES, *(THIRDS for _ in STATISTICS))
SIZES = np.full(GROUPS, IMAGES // np.prod(GROUPS)).ravel()
SIZES[np.linspace(0, SIZES.size, IMAGES - SIZES.sum(), endpoint=False).astype(int)] += 1
CORRUPTED = 1000  # images
SHARED = 0.5  # of a difference on the clean image that is left on its corrupted copies
OWN_SPREAD = 0.2  # of an image's difference on its copies, beside that
LATENCY_SPREAD = 0.02  # standard error of the logarithm of the measured ratio
TWO_SIDED = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class World:
    """The truth about a challenger and its champion, which is the anchor too."""

    accuracy: tuple[float, ...] = (0.8,) * CLASSES  # the challenger's
    gain: tuple[float, ...] = (0.0,) * CLASSES  # over the champion's
    disagreement: float = 0.2
    ece: float = 0.03
    robustness: float = 0.0  # difference
    latency: float = 1.0  # ratio

    def shares(self) -> NDArray[np.float64]:
        """float64[classes, 4] of images: both right, only the challenger, only the champion, neither."""
        accuracy, gain = np.array(self.accuracy), np.array(self.gain)
        won, lost = (self.disagreement + gain) / 2, (self.disagreement - gain) / 2
        return np.stack([accuracy - won, won, lost, 1 - accuracy - lost], axis=1)


def draw_evidence(world: World, uses: tuple[Use, ...], random: np.random.Generator) -> GateEvidence:
    """What a gate would have measured of them once."""
    shares = world.shares().repeat(THIRDS ** len(STATISTICS), axis=0)
    groups = random.multinomial(SIZES, shares).reshape(*GROUPS, 4)
    whole = _counts(groups.reshape(-1, 4).sum(axis=0))
    against = Comparison(CHAMPION, f"eval-{CHAMPION}", whole)
    luck = (whole.both + whole.only_challenger) / IMAGES - float(np.mean(world.accuracy))
    return GateEvidence(
        task_id="task",
        challenger=_evaluation(groups),
        champion_id=CHAMPION,
        anchor_id=CHAMPION,
        champion=against,
        anchor=against,
        uses=uses,
        slices=_slices(groups),
        ece=_ece(world, luck),
        robustness=_robustness(world, whole, random),
        cost=_cost(world, random),
        leaks=LeakEvidence(IMAGES, 0, 0),
        parity=ParityEvidence(f"{NEW}:1", 8, (), 1e-6, 1e-3),
    )


def _counts(row: Counts) -> PairedCounts:
    return PairedCounts(*row.tolist())


def _evaluation(groups: Counts) -> Evaluation:
    by_class = groups.sum(axis=(1, 2, 3))
    right, images = by_class[:, :2].sum(axis=1).tolist(), by_class.sum(axis=1).tolist()
    return replace(
        CHALLENGER,
        images=sum(images),
        top1=wilson(sum(right), sum(images)),
        majority_rate=max(images) / sum(images),
        classes=tuple(
            ClassResult(str(number), count, wilson(hits, count), 0.5)
            for number, (hits, count) in enumerate(zip(right, images, strict=True))
        ),
    )


def _slices(groups: Counts) -> tuple[SliceCounts, ...]:
    found = []
    for axis, kind in enumerate(("class", *STATISTICS)):
        others = tuple(other for other in range(len(GROUPS)) if other != axis)
        found += [SliceCounts(f"{kind} {k}", _counts(row)) for k, row in enumerate(groups.sum(axis=others))]
    return tuple(found)


def _ece(world: World, luck: float) -> Interval:
    """Of a model that is too sure by as much everywhere: a lucky one looks better calibrated, too."""
    accuracy = float(np.mean(world.accuracy))
    half = TWO_SIDED * sqrt(accuracy * (1 - accuracy) / IMAGES)
    seen = world.ece - luck
    return Interval(max(0.0, seen), max(0.0, seen - half), max(0.0, seen + half))


def _robustness(world: World, whole: PairedCounts, random: np.random.Generator) -> RobustnessEvidence:
    """The mean over a random part of the same images, each with what it shares with its clean original."""
    row = [whole.both, whole.only_challenger, whole.only_other, whole.neither]
    _, won, lost, _ = random.multivariate_hypergeometric(row, CORRUPTED).tolist()
    clean = (won - lost) / CORRUPTED
    others = world.robustness - SHARED * float(np.mean(world.gain))
    variance = SHARED**2 * ((won + lost) / CORRUPTED - clean**2) + OWN_SPREAD**2
    seen = others + SHARED * clean + OWN_SPREAD / sqrt(CORRUPTED) * random.standard_normal()
    half = TWO_SIDED * sqrt(variance / CORRUPTED)
    level = Interval(0.6, 0.57, 0.63)
    return RobustnessEvidence(CORRUPTED, 21, level, level, Interval(seen, seen - half, seen + half))


def _cost(world: World, random: np.random.Generator) -> CostEvidence:
    seen = world.latency * exp(LATENCY_SPREAD * random.standard_normal())
    spread = exp(TWO_SIDED * LATENCY_SPREAD)
    return CostEvidence(Interval(seen, seen / spread, seen * spread), 1.0, 2.0)

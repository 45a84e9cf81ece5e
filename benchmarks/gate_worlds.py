"""Whole evidence of a challenger whose truth is known in all that a gate looks at, its parts drawn to fit together.

8,000 frozen images of ten classes, each in a third by brightness, by contrast and by sharpness. Every group of images
of one class and the same thirds is drawn by who got them right; the total, the classes, the thirds, the part that is
corrupted and the calibration all come from these groups, so a challenger that was lucky is lucky in all of them.

Robustness and latency are drawn as outcomes and ratios, and their intervals are those that the gate's measures make of
them. So is calibration where it is looked at (`draw_measured`); else its interval, which costs as much as
all the rest six times, is that of a model which is too sure by as much everywhere.
"""

from dataclasses import dataclass, replace
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from benchmarks.gate_simulation import CHALLENGER, CHAMPION, NEW, Counts
from flywheel.evaluation.calibration_error import ece_interval
from flywheel.evaluation.corruptions import CONDITIONS
from flywheel.evaluation.cost import median_ratio
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
from flywheel.evaluation.robustness import Condition, Robustness, corrupted_accuracy, robustness_difference
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
EASE = (0.2, 0.5)  # the least and the largest chance of a right answer to a copy whose original was answered wrongly
SHARED = 0.3  # by how much a right answer to the original makes one to a copy more probable
ROUNDS = 100  # of timing
ROUND_SPREAD = 0.1  # standard deviation of the logarithm of one round's ratio
SURENESS = 4.0  # of the beta distribution of images' chances of a right answer: a + b
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
    groups = _draw_groups(world, random)
    whole = _counts(groups.reshape(-1, 4).sum(axis=0))
    against = Comparison(CHAMPION, f"eval-{CHAMPION}", whole)
    return replace(
        _alone(world, groups),
        champion_id=CHAMPION,
        anchor_id=CHAMPION,
        champion=against,
        anchor=against,
        uses=uses,
        slices=_slices(groups),
        robustness=_robustness(world, whole, random),
        cost=_cost(world, random),
    )


def draw_alone(world: World, random: np.random.Generator) -> GateEvidence:
    """The challenger as a task's first model, which only meets the floors."""
    return _alone(world, _draw_groups(world, random))


def draw_measured(world: World, random: np.random.Generator) -> GateEvidence:
    """The same, with its calibration measured from logits that fit to the right and wrong answers."""
    evidence = draw_alone(world, random)
    logits, labels = _answers(world, round(evidence.challenger.top1.value * IMAGES), random)
    return replace(evidence, ece=ece_interval(logits, labels))


def _draw_groups(world: World, random: np.random.Generator) -> Counts:
    shares = world.shares().repeat(THIRDS ** len(STATISTICS), axis=0)
    return random.multinomial(SIZES, shares).reshape(*GROUPS, 4)


def _alone(world: World, groups: Counts) -> GateEvidence:
    challenger = _evaluation(groups)
    return GateEvidence(
        task_id="task",
        challenger=challenger,
        ece=_ece(world, challenger.top1.value - float(np.mean(world.accuracy))),
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


def _answers(world: World, right: int, random: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits float64[8000, 10] of class 0, which is right where the label is 0.

    An image's chance of a right answer is of a beta distribution, so given the answer it is of one again. The stated
    confidence lies above the chance everywhere, and by the world's ECE in the mean.
    """
    accuracy = float(np.mean(world.accuracy))
    labels = (np.arange(IMAGES) >= right).astype(np.int64)
    chance = random.beta(SURENESS * accuracy + 1 - labels, SURENESS * (1 - accuracy) + labels)
    confidence = np.clip(chance + (1 - chance) * world.ece / (1 - accuracy), 1e-9, 1 - 1e-9)
    others = np.log((1 - confidence) / (CLASSES - 1))
    return np.column_stack([np.log(confidence), *[others] * (CLASSES - 1)]), labels


def _robustness(world: World, whole: PairedCounts, random: np.random.Generator) -> RobustnessEvidence:
    """Answers to corrupted copies of a random part of the same images."""
    row = [whole.both, whole.only_challenger, whole.only_other, whole.neither]
    part = np.repeat(range(4), random.multivariate_hypergeometric(row, CORRUPTED))
    ease = random.uniform(*EASE, CORRUPTED)
    shift = world.robustness - SHARED * float(np.mean(world.gain))
    chances = ease + SHARED * (part <= 1) + shift, ease + SHARED * (part % 2 == 0)
    mine, theirs = (_corrupted(chance, random) for chance in chances)
    return RobustnessEvidence(
        images=CORRUPTED,
        corruptions=len(CONDITIONS),
        challenger=corrupted_accuracy(mine),
        champion=corrupted_accuracy(theirs),
        difference=robustness_difference(mine, theirs),
    )


def _corrupted(chance: NDArray[np.float64], random: np.random.Generator) -> Robustness:
    """A record as the measure leaves it."""
    right = random.random((len(CONDITIONS), CORRUPTED)) < chance
    conditions = [
        Condition(*condition, int(bits.sum()), np.packbits(bits).tobytes().hex())
        for condition, bits in zip(CONDITIONS, right, strict=True)
    ]
    return Robustness(NEW, "part", CORRUPTED, 32, tuple(conditions), 0.0)


def _cost(world: World, random: np.random.Generator) -> CostEvidence:
    ratio = median_ratio((world.latency * np.exp(ROUND_SPREAD * random.standard_normal(ROUNDS))).tolist())
    if ratio is None:
        raise ValueError(f"{ROUNDS} rounds of timing are enough for an interval.")
    return CostEvidence(ratio, 1.0, 2.0)

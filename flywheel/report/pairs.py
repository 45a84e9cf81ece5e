"""Challenger against champion on the same images: class by class, how sure they were, and who changed sides."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.evaluation.evidence import Comparison, GateEvidence, PairedCounts
from flywheel.evaluation.metrics import (
    ReliabilityBin,
    check,
    confidences,
    expected_calibration_error,
    reliability,
)
from flywheel.evaluation.record import EvaluationError, Predictions
from flywheel.evaluation.spending import Spending, next_comparison
from flywheel.evaluation.statistics import mcnemar_p, noninferiority_p, paired_difference, wilson
from flywheel.policies import GatePolicy
from flywheel.records import Interval

CHANGED_IN_SIGHT = 12  # images a side of the change


@dataclass(frozen=True)
class PairTests:
    """What the comparison rule looks at."""

    counts: PairedCounts
    challenger: Interval  # top-1 on the images that were compared
    champion: Interval
    difference: Interval
    better_p: float
    within_p: float  # that a loss of the margin against the anchor is excluded
    spending: Spending | None  # None: how often the images were used is not known


@dataclass(frozen=True)
class ClassPair:
    """One class in both models' eyes."""

    label: str
    images: int
    challenger: float  # recall
    champion: float
    difference: Interval
    won: int
    lost: int


@dataclass(frozen=True)
class Changed:
    """An image that one model got right and the other wrong."""

    image_id: str
    true: str
    challenger: str
    champion: str
    challenger_confidence: float
    champion_confidence: float


@dataclass(frozen=True)
class Calibration:
    """How sure a model said it was, and how often it was right."""

    bins: tuple[ReliabilityBin, ...]
    ece: float


@dataclass(frozen=True)
class Pair:
    """Both models on all images that both answered."""

    images: int
    classes: tuple[ClassPair, ...]  # with images, the greatest loss first
    challenger: Calibration
    champion: Calibration
    won: tuple[Changed, ...]  # the challenger's surest first
    lost: tuple[Changed, ...]
    all_won: int
    all_lost: int


def pair_tests(evidence: GateEvidence, policy: GatePolicy) -> PairTests | None:
    """The comparison's numbers; None where the two were not compared."""
    champion, anchor = evidence.champion, evidence.anchor or evidence.champion
    if champion is None or anchor is None or 0 in (champion.counts.images, anchor.counts.images):
        return None
    counts = champion.counts
    return PairTests(
        counts=counts,
        challenger=wilson(counts.both + counts.only_challenger, counts.images),
        champion=wilson(counts.both + counts.only_other, counts.images),
        difference=paired_difference(counts.both, counts.only_challenger, counts.only_other, counts.neither),
        better_p=mcnemar_p(counts.only_challenger, counts.only_other),
        within_p=_within(anchor, policy) if evidence.anchor else float("nan"),
        spending=None if evidence.uses is None else next_comparison(evidence.uses, policy),
    )


def _within(anchor: Comparison, policy: GatePolicy) -> float:
    counts = anchor.counts
    return noninferiority_p(counts.only_challenger, counts.only_other, counts.images, policy.margin)


def compare(challenger: Predictions, champion: Predictions, classes: tuple[str, ...]) -> Pair:
    """All that stands side by side. Raises EvaluationError where the two answered other images, or under other labels,
    and MetricsError where their answers are no logits of these classes."""
    first, second = challenger.sorted(), champion.sorted()
    if not (np.array_equal(first.ids, second.ids) and np.array_equal(first.labels, second.labels)):
        raise EvaluationError("the two models answered other images, or under other labels")
    for each in (first, second):
        check(each.logits, each.labels, len(classes))
    right = [each.logits.argmax(axis=1) == each.labels for each in (first, second)]
    won, lost = right[0] & ~right[1], right[1] & ~right[0]
    return Pair(
        images=len(first.ids),
        classes=_class_pairs(first.labels, right[0], right[1], classes),
        challenger=_calibration(first),
        champion=_calibration(second),
        won=_surest(won, first, second, classes),
        lost=_surest(lost, first, second, classes),
        all_won=int(won.sum()),
        all_lost=int(lost.sum()),
    )


def _class_pairs(
    labels: NDArray[np.int64], mine: NDArray[np.bool_], theirs: NDArray[np.bool_], classes: tuple[str, ...]
) -> tuple[ClassPair, ...]:
    cells = np.bincount(labels * 4 + mine * 2 + theirs, minlength=4 * len(classes)).reshape(-1, 4).tolist()
    pairs = [_class_pair(label, *counts) for label, counts in zip(classes, cells, strict=True) if sum(counts)]
    return tuple(sorted(pairs, key=lambda each: each.difference.value))


def _class_pair(label: str, neither: int, lost: int, won: int, both: int) -> ClassPair:
    images = neither + lost + won + both
    return ClassPair(
        label=label,
        images=images,
        challenger=(both + won) / images,
        champion=(both + lost) / images,
        difference=paired_difference(both, won, lost, neither),
        won=won,
        lost=lost,
    )


def _calibration(predictions: Predictions) -> Calibration:
    bins = reliability(predictions.logits, predictions.labels)
    return Calibration(bins, expected_calibration_error(bins))


def _surest(
    changed: NDArray[np.bool_], challenger: Predictions, champion: Predictions, classes: tuple[str, ...]
) -> tuple[Changed, ...]:
    rows = np.flatnonzero(changed)
    sure, other = (confidences(each.logits[rows]) if len(rows) else np.zeros(0) for each in (challenger, champion))
    order = np.argsort(-sure, kind="stable")[:CHANGED_IN_SIGHT]
    return tuple(
        Changed(
            image_id=str(challenger.ids[rows[place]]),
            true=classes[challenger.labels[rows[place]]],
            challenger=classes[challenger.logits[rows[place]].argmax()],
            champion=classes[champion.logits[rows[place]].argmax()],
            challenger_confidence=float(sure[place]),
            champion_confidence=float(other[place]),
        )
        for place in order
    )

"""Two models' answers to the same images, as counts of who got which right."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.evaluation.evidence import PairedCounts, SliceCounts
from flywheel.evaluation.record import EvaluationError, Predictions
from flywheel.evaluation.slices import Slices


@dataclass(frozen=True)
class Pairing:
    """Who is right on each image of an evaluation set."""

    ids: NDArray[np.str_]  # str[N], sorted
    labels: NDArray[np.int64]  # int64[N]
    cells: NDArray[np.int64]  # int64[N]: 0 neither is right, 1 only the other, 2 only the challenger, 3 both


def pair(challenger: Predictions, other: Predictions) -> Pairing:
    """Raises EvaluationError where the two did not answer the same labelled images, or with a logit that isn't finite.

    The largest of logits that are NaN would be the first of them: an answer that nobody gave.
    """
    first, second = challenger.sorted(), other.sorted()
    if not (np.array_equal(first.ids, second.ids) and np.array_equal(first.labels, second.labels)):
        raise EvaluationError("The two models were measured on other images or labels. Evaluate both on one set.")
    if not (np.isfinite(first.logits).all() and np.isfinite(second.logits).all()):
        raise EvaluationError("Logits that are NaN or infinite are no answers. Evaluate again.")
    mine, theirs = (part.logits.argmax(axis=1) == part.labels for part in (first, second))
    return Pairing(first.ids, first.labels, 2 * mine.astype(np.int64) + theirs)


def paired_counts(pairing: Pairing, chosen: NDArray[np.bool_] | None = None) -> PairedCounts:
    """Of all images; with `chosen`, a mask in the order of ids, of those."""
    return _counts(pairing.cells if chosen is None else pairing.cells[chosen])


def slice_counts(slices: Slices, pairing: Pairing, chosen: NDArray[np.bool_] | None = None) -> tuple[SliceCounts, ...]:
    """Of each slice's images, or of those of them that are chosen. Raises EvaluationError for another set's answers."""
    if not (np.array_equal(pairing.ids, slices.ids) and np.array_equal(pairing.labels, slices.labels)):
        raise EvaluationError(
            f"Answers on the {len(slices.ids):,} images of the slices expected, "
            f"{len(pairing.ids):,} on others or with other labels found."
        )
    return tuple(
        SliceCounts(
            f"{part.kind} {part.name}",
            _counts(pairing.cells[part.rows if chosen is None else part.rows[chosen[part.rows]]]),
        )
        for part in slices.slices
    )


def _counts(cells: NDArray[np.int64]) -> PairedCounts:
    neither, only_other, only_challenger, both = np.bincount(cells, minlength=4).tolist()
    return PairedCounts(both, only_challenger, only_other, neither)

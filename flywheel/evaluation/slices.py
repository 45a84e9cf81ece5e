"""Parts of an evaluation set on which a model may be worse although it is better on the whole.

Each class, and each third by brightness, contrast and sharpness. A slice is a function of the set alone: statistics are
those that the version keeps of the original images, at whatever size they are packed, and the thirds are the set's own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.data.versions import DatasetArrays
from flywheel.evaluation.record import EvaluationError
from flywheel.records import Side

CLASS = "class"
STATISTICS = ("brightness", "contrast", "sharpness")
THIRDS = ("low", "middle", "high")


@dataclass(frozen=True)
class Slice:
    """Some images of an evaluation set."""

    kind: str  # class, brightness, contrast, sharpness
    name: str  # the class, or low, middle, high
    rows: NDArray[np.int64]  # positions among the set's images in the order of their ids, ascending


@dataclass(frozen=True)
class Slices:
    """The slices of one evaluation set; slices of one kind have no image in common and hold all of them together."""

    ids: NDArray[np.str_]  # str[N], sorted
    labels: NDArray[np.int64]  # int64[N]
    slices: tuple[Slice, ...]  # none is empty


def slices_of(arrays: DatasetArrays, classes: tuple[str, ...], side: Side = Side.FROZEN) -> Slices:
    """The slices of a side. Raises EvaluationError where the side has no image or a statistic isn't finite."""
    rows = arrays.side(side)
    rows = rows[np.argsort(arrays.ids[rows], kind="stable")]
    if len(rows) == 0:
        raise EvaluationError(f"The {side} side has no image: there is nothing to slice.")
    labels, found = arrays.labels[rows], []
    for place, label in enumerate(classes):
        found.append(Slice(CLASS, label, np.flatnonzero(labels == place)))
    for kind in STATISTICS:
        third = thirds(arrays.statistics[rows, arrays.statistic_names.index(kind)])
        if third.min() < third.max():  # else all are equal, and the slice would be the whole set
            found += [Slice(kind, name, np.flatnonzero(third == place)) for place, name in enumerate(THIRDS)]
    return Slices(arrays.ids[rows], labels, tuple(part for part in found if len(part.rows)))


def thirds(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """0, 1 or 2 for each value: the third of the values that it lies in. Equal values lie in the same one.

    Where many values are equal the thirds are of unequal size, or one has none. Raises EvaluationError for NaN.
    """
    if not np.isfinite(values).all():
        raise EvaluationError(f"{int((~np.isfinite(values)).sum()):,} of {len(values):,} statistics aren't finite.")
    ordered, count = np.sort(values), len(values)
    edges = ordered[[count // 3, 2 * count // 3]]
    return np.searchsorted(edges, values, side="right").astype(np.int64)

"""Which images of a frozen set may still be asked, and what was asked of them before.

Adding an image makes another evaluation set, and must not make its budget new: every earlier set that shares an image
counts. Once a budget is spent, only images that served in none of it begin a new one, and there must be enough of them.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.evaluation.power import images_needed
from flywheel.evaluation.spending import Use, next_comparison
from flywheel.policies import GatePolicy

IdsOf = Callable[[str], Collection[str] | None]


@dataclass(frozen=True)
class PastUse:
    """A recorded use of an evaluation set of this task."""

    evaluation_set_id: str
    use: Use
    set_aside: tuple[str, ...] = ()  # sets whose images it left out


@dataclass(frozen=True)
class Exposure:
    """What a gate may use."""

    uses: tuple[Use, ...]  # of the images that are chosen
    set_aside: tuple[str, ...]
    chosen: NDArray[np.bool_]  # over the current set's images, in the order they were given


def exposure(
    past: Sequence[PastUse],
    current_set: str,
    current_ids: Sequence[str],
    ids_of: IdsOf,
    policy: GatePolicy,
    disagreement: float,
) -> Exposure:
    """The budget that a comparison on the current set finds.

    `ids_of` gives an earlier set's image ids; None, where they are lost, counts as sharing everything.
    """
    ids = np.asarray(current_ids, np.str_)
    known = {name: ids_of(name) for name in {use.evaluation_set_id for use in past} - {current_set}}
    known[current_set] = current_ids

    def shared(name: str) -> NDArray[np.bool_]:
        members = known[name] if name in known else ids_of(name)
        return np.ones(len(ids), bool) if members is None else np.isin(ids, np.asarray(sorted(members), np.str_))

    met = [use for use in past if shared(use.evaluation_set_id).any()]
    set_aside = met[-1].set_aside if met else ()
    uses = [use for use in met if use.set_aside == set_aside]
    budget = next_comparison([use.use for use in uses], policy)
    if budget.spent:
        wider = tuple(sorted({*set_aside, *(use.evaluation_set_id for use in uses)}))
        fresh = _outside(wider, shared, len(ids))
        new = next_comparison((), policy)
        if fresh.sum() >= images_needed(new, policy, disagreement, policy.smallest_power):
            return Exposure((), wider, fresh)
    return Exposure(tuple(use.use for use in uses), set_aside, _outside(set_aside, shared, len(ids)))


def _outside(sets: Sequence[str], shared: Callable[[str], NDArray[np.bool_]], images: int) -> NDArray[np.bool_]:
    chosen = np.ones(images, bool)
    for name in sets:
        chosen &= ~shared(name)
    return chosen

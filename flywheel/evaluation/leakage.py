"""Was an evaluation image, or a near copy of one, among the images that a model learned from?

Read from the dataset versions that the models name. A version that is missing or damaged is an error: what can't be
looked at is not free of leaks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from flywheel.data.duplicates import nearest_duplicate
from flywheel.data.index import DESCRIPTOR, unpack_descriptors
from flywheel.data.versions import check_files, version_table
from flywheel.records import DatasetVersion, Side

# A model learns from the first, its checkpoint is chosen on the second, its temperature fitted on the third.
SEEN_SIDES = (Side.TRAIN, Side.VALIDATION, Side.REFERENCE)


@dataclass(frozen=True)
class Leak:
    """An evaluation image that a model has seen."""

    model_id: str
    image_id: str  # of the evaluation set
    path: str  # in the source
    seen_id: str
    seen_path: str
    seen_side: str

    @property
    def exact(self) -> bool:
        return self.image_id == self.seen_id

    def __str__(self) -> str:
        what = "is" if self.exact else "is a near copy of"
        return f"{self.path} {what} {self.seen_path} on the {self.seen_side} side that {self.model_id} learned from"


def find_leaks(version: DatasetVersion, learned_from: Mapping[str, DatasetVersion]) -> list[Leak]:
    """Every frozen image of the version that is on a seen side of what a model (by its id) learned from.

    Exact copies first, each image once a model. Raises VersionError where a version's files are not what its manifest
    says.
    """
    for each in {each.id: each for each in (version, *learned_from.values())}.values():
        check_files(each)
    table = version_table(version, with_descriptors=True)
    frozen = table[table["side"] == Side.FROZEN].reset_index(drop=True)
    found: dict[str, list[Leak]] = {}
    for model_id, dataset in learned_from.items():
        if dataset.id not in found:
            found[dataset.id] = _leaks(model_id, frozen, dataset)
    return [
        Leak(model_id, leak.image_id, leak.path, leak.seen_id, leak.seen_path, leak.seen_side)
        for model_id, dataset in learned_from.items()
        for leak in found[dataset.id]
    ]


def _leaks(model_id: str, frozen: pd.DataFrame, dataset: DatasetVersion) -> list[Leak]:
    seen = version_table(dataset, with_descriptors=True)
    seen = seen[seen["side"].isin([str(side) for side in SEEN_SIDES])].reset_index(drop=True)
    if seen.empty or frozen.empty:
        return []
    place = {name: row for row, name in enumerate(seen["image_id"])}
    exact = frozen["image_id"].map(place)
    nearest = nearest_duplicate(unpack_descriptors(frozen[DESCRIPTOR]), unpack_descriptors(seen[DESCRIPTOR]))
    pairs = [(row, int(exact[row])) for row in frozen.index[exact.notna()]]
    pairs += [(row, int(nearest[row])) for row in frozen.index[exact.isna()] if nearest[row] >= 0]
    return [
        Leak(
            model_id,
            *(str(frozen.at[row, column]) for column in ("image_id", "path")),
            *(str(seen.at[other, column]) for column in ("image_id", "path", "side")),
        )
        for row, other in pairs
    ]

"""Which side an image stands on: a pure function of the images' content and labels, never of file order.

A source's own test split is the frozen side, its own validation split the validation side. All else is decided by
hashes of the image id, so an image keeps its side whatever is added. Nothing here reads a file.
"""

import hashlib
from collections.abc import Iterable, Mapping
from math import ceil, log

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flywheel.data.duplicates import nearest_duplicate
from flywheel.data.index import DESCRIPTOR, unpack_descriptors
from flywheel.records import Side
from flywheel.settings import DataParameters

FROZEN_SHARE = 0.20  # of all images, where the source has no test split
REFERENCE_SHARE = 0.10  # of what is not frozen
VALIDATION_SHARE = 0.05
# Of two copies, the one on the earlier side stays: what judges is worth more than what is learned from.
PRECEDENCE = (Side.FROZEN, Side.REFERENCE, Side.VALIDATION, Side.TRAIN)
CHANCE = 0.99  # that the images which a refusal asks for are enough
LISTED = 5  # classes and gaps that a refusal names; the rest is counted
ANY_CLASS = ""  # no folder is named so
LEFT_OUT = ("path", "image_id", "label", "side", "of", "why")  # columns of left_out.csv
ELSEWHERE = ("path", "image_id", "label", "split", "side")  # columns of the list of images that kept another side
OF_SPLIT = {"test": Side.FROZEN, "val": Side.VALIDATION}  # what a source's own split is meant to be

Gap = tuple[Side, str]  # a side, and the class that has no image on it


class SplitError(ValueError):
    """Too few images for a side or a class; the message says which, and how many more are needed."""


def assign_sides(
    frame: pd.DataFrame, parameters: DataParameters, earlier: Mapping[str, Side] | None = None
) -> pd.DataFrame:
    """Rows of an index (decodable ones, with descriptors) → the same rows, sorted by image id, with three columns more.

    `side`: a Side; `why`: empty, or why the image is left out of the version; `of`: the image id that it is a copy of.
    Left out are images under two labels, further copies of one image, and near duplicates of an image on a side of
    higher PRECEDENCE. Near duplicates within a side stay. `earlier` is the side of images in versions made before: they
    keep it, also where the source has got splits of its own since. The validation side may be empty. Raises SplitError
    where a class has no image on the training or frozen side, or the reference side is empty.
    """
    rows = frame.sort_values(["image_id", "label", "path"], kind="stable", ignore_index=True)
    rows = rows.assign(side=_by_content(rows), why="", of="")
    if earlier:
        rows["side"] = [earlier.get(name, side) for name, side in zip(rows["image_id"], rows["side"], strict=True)]
    _leave_out_conflicts(rows)
    _leave_out_copies(rows)
    _leave_out_near_duplicates(rows)
    _take_subset(rows, parameters)
    _demand_every_side(rows, parameters)
    return rows


def left_out(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that are not in the version, with the reason; columns LEFT_OUT."""
    return rows.loc[rows["why"] != "", list(LEFT_OUT)].sort_values(["path", "image_id"], ignore_index=True)


def elsewhere(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a source's own `test` or `val` that don't stand on its side; columns ELSEWHERE.

    An earlier version had them on another side, and a model may have learned from them.
    """
    meant = rows["split"].map(OF_SPLIT)
    kept = rows[(rows["why"] == "") & meant.notna() & (rows["side"] != meant)]
    return kept[list(ELSEWHERE)].sort_values(["path", "image_id"], ignore_index=True)


def draw(salt: str, image_ids: Iterable[str]) -> NDArray[np.float64]:
    """A number in 0..1 for each image id: the same for the same salt and id on any machine."""
    digests = (hashlib.sha256(f"{salt}:{image_id}".encode()).digest()[:8] for image_id in image_ids)
    return np.frombuffer(b"".join(digests), ">u8").astype(np.float64) / 2.0**64


def _by_content(rows: pd.DataFrame) -> NDArray[np.object_]:
    """The side of each image before duplicates and subset are looked at."""
    split = rows["split"].to_numpy()
    own_test, own_validation = (split == "test").any(), (split == "val").any()
    frozen = split == "test" if own_test else (draw("frozen", rows["image_id"]) < FROZEN_SHARE) & (split != "val")
    number = draw("side", rows["image_id"])
    reference = (number < REFERENCE_SHARE) & (split != "val")
    drawn = (number >= REFERENCE_SHARE) & (number < REFERENCE_SHARE + VALIDATION_SHARE)
    validation = split == "val" if own_validation else drawn
    return np.select([frozen, reference, validation], [Side.FROZEN, Side.REFERENCE, Side.VALIDATION], Side.TRAIN)


def _leave_out_conflicts(rows: pd.DataFrame) -> None:
    """An image under two labels: neither can be trusted."""
    conflict = rows.groupby("image_id")["label"].transform("nunique") > 1
    rows.loc[conflict, "why"] = "the same image has other labels too"
    rows.loc[conflict, "of"] = rows.loc[conflict, "image_id"]


def _leave_out_copies(rows: pd.DataFrame) -> None:
    """Of one image stays the copy on the side of highest precedence, there the one of the lowest path."""
    stand = rows[rows["why"] == ""].assign(rank=lambda kept: kept["side"].map(PRECEDENCE.index))
    stand = stand.sort_values(["image_id", "rank", "path"], kind="stable")
    copies = stand.index[stand.duplicated("image_id")]
    stays = stand.drop_duplicates("image_id").set_index("image_id")["side"]
    originals = rows.loc[copies, "image_id"].to_numpy()
    rows.loc[copies, "of"] = originals
    rows.loc[copies, "why"] = [f"an exact copy of an image on the {stays[original]} side" for original in originals]


def _leave_out_near_duplicates(rows: pd.DataFrame) -> None:
    for rank, side in enumerate(PRECEDENCE):
        for above in PRECEDENCE[:rank]:
            ours, theirs = _standing(rows, side), _standing(rows, above)
            nearest = nearest_duplicate(_descriptors(rows, ours), _descriptors(rows, theirs))
            copies, originals = ours[nearest >= 0], theirs[nearest[nearest >= 0]]
            rows.loc[copies, "why"] = f"a near duplicate of an image on the {above} side"
            rows.loc[copies, "of"] = rows.loc[originals, "image_id"].to_numpy()


def _standing(rows: pd.DataFrame, side: Side) -> NDArray[np.int64]:
    return np.flatnonzero((rows["side"] == side) & (rows["why"] == ""))


def _descriptors(rows: pd.DataFrame, positions: NDArray[np.int64]) -> NDArray[np.int16]:
    return unpack_descriptors(rows[DESCRIPTOR].iloc[positions])


def _take_subset(rows: pd.DataFrame, parameters: DataParameters) -> None:
    """Keep `subset` training images, as even over classes as they allow; those of the lowest draw a class."""
    train = _standing(rows, Side.TRAIN)
    if parameters.subset is None or parameters.subset >= len(train):
        return
    pool = rows.loc[train, ["image_id", "label"]].assign(
        draw=lambda kept: draw(f"subset-{parameters.subset_seed}", kept["image_id"])
    )
    pool = pool.sort_values(["label", "draw", "image_id"])
    place = pool.groupby("label").cumcount()
    shares = shares_of(pool["label"].value_counts().sort_index(), parameters.subset)
    rows.loc[pool.index[place >= pool["label"].map(shares)], "side"] = Side.UNUSED


def shares_of(available: "pd.Series[int]", wanted: int) -> dict[str, int]:
    """Equal shares by class; what a small class can't give is given by the others, the remainder by the first ones."""
    shares: dict[str, int] = {}
    by_size = sorted(available.items(), key=lambda item: (item[1], item[0]))
    for place, (label, count) in enumerate(by_size):
        left = len(by_size) - place
        shares[str(label)] = min(int(count), -(-(wanted - sum(shares.values())) // left))
    return shares


def _demand_every_side(rows: pd.DataFrame, parameters: DataParameters) -> None:
    """Raise SplitError with all that lacks an image, and how many more images of which class it takes.

    An empty validation side is none of it: the last epoch's weights are kept then.
    """
    classes = sorted(set(rows["label"]))
    lacking = [(side, label) for side in (Side.TRAIN, Side.FROZEN) for label in _absent(rows, side, classes)]
    if not len(_standing(rows, Side.REFERENCE)):
        lacking.append((Side.REFERENCE, ANY_CLASS))
    if lacking:
        raise SplitError(" ".join([*_findings(rows, lacking), *_remedies(rows, lacking, parameters)]))


def _absent(rows: pd.DataFrame, side: Side, classes: list[str]) -> list[str]:
    standing = set(rows["label"].iloc[_standing(rows, side)])
    return [label for label in classes if label not in standing]


def _findings(rows: pd.DataFrame, lacking: list[Gap]) -> list[str]:
    images = rows["label"].value_counts()
    said = [
        f"class {label!r}: at least one image on the {side} side expected, none of its {images[label]:,} is."
        if label != ANY_CLASS
        else f"{side} side: at least one image expected, none of {len(rows):,} in all is."
        for side, label in lacking
    ]
    more = len(said) - LISTED
    return said[:LISTED] + ([f"So it is with {more:,} more classes or sides."] if more > 0 else [])


def _remedies(rows: pd.DataFrame, lacking: list[Gap], parameters: DataParameters) -> list[str]:
    """What fills the gaps: a larger subset, images in a split of the source's own, or more images to be drawn."""
    own_test = bool((rows["split"] == "test").any())
    unused = set(rows["label"].iloc[_standing(rows, Side.UNUSED)])
    by_subset = [gap for gap in lacking if gap[0] is Side.TRAIN and gap[1] in unused]
    by_hand = [label for side, label in lacking if side is Side.FROZEN and own_test]
    drawn = [gap for gap in lacking if gap not in by_subset and not (gap[0] is Side.FROZEN and own_test)]
    said = []
    if by_subset:
        said.append(f"SUBSET={parameters.subset} is too few: {rows['label'].nunique():,} classes need as many images.")
    if by_hand:
        said.append(f"Put one image of {_each(by_hand)} that no other side holds into the test split.")
    if drawn:
        said.append(_more_images(drawn, own_test, bool((rows["split"] == "val").any())))
    return said


def _more_images(drawn: list[Gap], own_test: bool, own_validation: bool) -> str:
    """How many more images fill every gap at once in 99 of 100 cases, each image being drawn to a side by itself."""
    rest = 1.0 if own_test else 1 - FROZEN_SHARE
    shares = {
        Side.FROZEN: FROZEN_SHARE,
        Side.TRAIN: rest * (1 - REFERENCE_SHARE - (0.0 if own_validation else VALIDATION_SHARE)),
        Side.REFERENCE: rest * REFERENCE_SHARE,
    }
    unfilled = 1 - CHANCE ** (1 / len(drawn))  # of each gap, so that all together are filled with CHANCE
    needed: dict[str, int] = {}
    for side, label in drawn:
        needed[label] = max(needed.get(label, 0), ceil(log(unfilled) / log(1 - shares[side])))
    of_any = needed.pop(ANY_CLASS, 0) - sum(needed.values())
    by_number: dict[int, list[str]] = {}
    for label, number in needed.items():
        by_number.setdefault(number, []).append(label)
    wanted = [f"{number:,} more images of {_each(labels)}" for number, labels in by_number.items()]
    wanted += [f"{of_any:,} more images of any class"] if of_any > 0 else []
    where = " to the train split" if own_test else ""
    return (
        f"Add {' and '.join(wanted)}{where}, no copies: sides are drawn by hash, and in 99 of 100 cases these "
        "bring each side what it lacks."
    )


def _each(labels: list[str]) -> str:
    named = ", ".join(repr(label) for label in labels[:LISTED])
    more = f" and {len(labels) - LISTED:,} more classes" if len(labels) > LISTED else ""
    return f"each of {named}{more}" if len(labels) > 1 else named

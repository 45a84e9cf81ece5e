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
LEFT_OUT = ("path", "image_id", "label", "side", "of", "why")  # columns of left_out.csv


class SplitError(ValueError):
    """Too few images for a side or a class; the message says which, and how many are needed."""


def assign_sides(
    frame: pd.DataFrame, parameters: DataParameters, earlier: Mapping[str, Side] | None = None
) -> pd.DataFrame:
    """Rows of an index (decodable ones, with descriptors) → the same rows, sorted by image id, with three columns more.

    `side`: a Side; `why`: empty, or why the image is left out of the version; `of`: the image id that it is a copy of.
    Left out are images under two labels, further copies of one image, and near duplicates of an image on a side of
    higher PRECEDENCE. Near duplicates within a side stay. `earlier` is the side of images in versions made before: they
    keep it, also where the source has got splits of its own since. Raises SplitError where a class has no image on the
    training or frozen side, or the validation or reference side is empty.
    """
    rows = frame.sort_values(["image_id", "label", "path"], kind="stable", ignore_index=True)
    rows = rows.assign(side=_by_content(rows), why="", of="")
    if earlier:
        rows["side"] = [earlier.get(name, side) for name, side in zip(rows["image_id"], rows["side"], strict=True)]
    _leave_out_conflicts(rows)
    _leave_out_copies(rows)
    _leave_out_near_duplicates(rows)
    _take_subset(rows, parameters)
    _demand_every_side(rows)
    return rows


def left_out(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that are not in the version, with the reason; columns LEFT_OUT."""
    return rows.loc[rows["why"] != "", list(LEFT_OUT)].sort_values(["path", "image_id"], ignore_index=True)


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
    shares = _shares(pool["label"].value_counts().sort_index(), parameters.subset)
    rows.loc[pool.index[place >= pool["label"].map(shares)], "side"] = Side.UNUSED


def _shares(available: "pd.Series[int]", wanted: int) -> dict[str, int]:
    """Equal shares by class; what a small class can't give is given by the others, the remainder by the first ones."""
    shares: dict[str, int] = {}
    by_size = sorted(available.items(), key=lambda item: (item[1], item[0]))
    for place, (label, count) in enumerate(by_size):
        left = len(by_size) - place
        shares[str(label)] = min(int(count), -(-(wanted - sum(shares.values())) // left))
    return shares


def _demand_every_side(rows: pd.DataFrame) -> None:
    images = rows["label"].value_counts()
    for side in (Side.TRAIN, Side.FROZEN):
        standing = set(rows[(rows["side"] == side) & (rows["why"] == "")]["label"])
        lacking = sorted(set(images.index) - standing)
        if lacking:
            more = f" So it is with {len(lacking) - 1:,} more classes." if len(lacking) > 1 else ""
            raise SplitError(
                f"class {lacking[0]!r}: at least one image on the {side} side expected, none of its "
                f"{images[lacking[0]]} is.{more} {_remedy(rows, side)}"
            )
    for side in (Side.VALIDATION, Side.REFERENCE):
        if not len(_standing(rows, side)):
            raise SplitError(
                f"{side} side: at least one image expected, none of {len(rows)} in all found. {_remedy(rows, side)}"
            )


def _remedy(rows: pd.DataFrame, side: Side) -> str:
    """What brings an image to the side: one of its own split, or more images, since sides are drawn by hash."""
    own_test, own_validation = (bool((rows["split"] == split).any()) for split in ("test", "val"))
    if (side is Side.FROZEN and own_test) or (side is Side.VALIDATION and own_validation):
        split = "test" if side is Side.FROZEN else "val"
        return f"Put at least one image that no other side holds into the {split} split."
    drawn = 1.0 if own_test else 1 - FROZEN_SHARE
    validation = 0.0 if own_validation else VALIDATION_SHARE
    share = {
        Side.FROZEN: FROZEN_SHARE,
        Side.TRAIN: drawn * (1 - REFERENCE_SHARE - validation),
        Side.REFERENCE: drawn * REFERENCE_SHARE,
        Side.VALIDATION: drawn * VALIDATION_SHARE,
    }[side]
    needed = ceil(log(0.01) / log(1 - share))
    where = " of the train split" if own_test else ""
    of = " of a class" if side in (Side.FROZEN, Side.TRAIN) else ""
    return f"Sides are drawn by hash: with {needed} images{of}{where} this side has one in 99 of 100 cases."

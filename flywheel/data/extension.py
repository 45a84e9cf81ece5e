"""A dataset version made of another one and of images that were labelled since: what a retraining learns from.

The frozen side is the other version's, whole, and no labelled image ever enters it. The labelled images are drawn by
their content to three sides: one judges under drift, one is the new reference, so that monitoring compares with the
world as it is now, and the rest is learned from. Old training images are learned from again beside them, a balanced
draw, so that nothing is forgotten (replay: Robins 1995). What can't be used stands in `left_out.csv` with its reason.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from flywheel.data.decode import decode, resize
from flywheel.data.duplicates import nearest_duplicate
from flywheel.data.folders import building, sweep
from flywheel.data.index import DESCRIPTOR, read_image_file, read_index, unpack_descriptors
from flywheel.data.originals import adding
from flywheel.data.splits import draw, shares_of
from flywheel.data.versions import (
    Made,
    VersionError,
    is_finished,
    load_version,
    open_arrays,
    version_identity,
    version_table,
    write_tables,
    write_version_manifest,
)
from flywheel.paths import Paths
from flywheel.progress import Progress, silent
from flywheel.records import DatasetVersion, ImageIndex, Side
from flywheel.settings import ExtensionParameters

log = logging.getLogger(__name__)

LEARNED = (Side.TRAIN, Side.VALIDATION, Side.REFERENCE)
PROGRESS_IMAGES = 500


def extend_version(
    base: DatasetVersion,
    index: ImageIndex,
    quarantined: tuple[int, ...],
    parameters: ExtensionParameters,
    paths: Paths,
    progress: Progress = silent,
) -> DatasetVersion:
    """The version of `base` and the labelled images of `index`. Raises VersionError where nothing is left to learn from
    or to judge by, or a class is not the base's."""
    sweep(paths.datasets)
    fresh = _fresh(base, index, quarantined)
    old = version_table(base, with_descriptors=True)
    old = old.assign(side=old["side"].map(Side), why="", of="")
    _draw_sides(fresh, old, parameters)
    _leave_out_copies(fresh, old)
    kept = _together(fresh, _replayed(old, fresh, parameters))
    counts = fresh[fresh["why"] == ""]["side"].value_counts()
    for side in (Side.TRAIN, Side.DRIFTED):
        if not counts.get(side, 0):
            raise VersionError(
                f"{len(fresh):,} labelled images: at least one on the {side} side expected, none is. Label more images."
            )
    identity = version_identity(kept, base.classes, base.size, base.filter)
    folder = paths.dataset(identity)
    if not is_finished(folder, paths):
        with building(folder) as part:
            _pack(kept, base, index, paths, part / "images.npy", progress)
            write_tables(kept, fresh, base.classes, part)
            source = f"{base.source}+{index.source.name}"
            made = Made(source, index.id, len(quarantined), base.size, base.filter, base.id)
            write_version_manifest(kept, fresh, base.classes, identity, made, part)
    version = load_version(folder)
    log.info("dataset version %s extends %s: %s", version.id, base.id, version.counts)
    return version


def _fresh(base: DatasetVersion, index: ImageIndex, quarantined: tuple[int, ...]) -> pd.DataFrame:
    frame = read_index(index, with_descriptors=True)
    usable = frame.drop(index=frame.index[sorted(quarantined)])
    usable = usable[usable["decode_ok"]].sort_values(["image_id", "label", "path"], kind="stable", ignore_index=True)
    if strange := sorted(set(usable["label"]) - set(base.classes)):
        raise VersionError(f"labels of the task's classes expected, {', '.join(map(repr, strange))} found.")
    return usable.assign(side=Side.TRAIN, why="", of="", fresh=True)


def _draw_sides(fresh: pd.DataFrame, old: pd.DataFrame, parameters: ExtensionParameters) -> None:
    """By content alone, so that an image stands on its side in every later version too; but what a model has learned
    from, or a copy of it, can't judge any more."""
    number = draw("drifted", fresh["image_id"])
    judges, refers = parameters.judging_share, parameters.judging_share + parameters.reference_share
    fresh["side"] = np.select([number < judges, number < refers], [Side.DRIFTED, Side.REFERENCE], Side.TRAIN)
    learned = old[old["side"].isin(LEARNED)]
    known = fresh["image_id"].isin(set(learned["image_id"])).to_numpy() | (_nearest(fresh, learned) >= 0)
    fresh.loc[known & (fresh["side"] != Side.TRAIN).to_numpy(), "side"] = Side.TRAIN


def _leave_out_copies(fresh: pd.DataFrame, old: pd.DataFrame) -> None:
    """An image of two labels, further copies of one, and copies of what judges: on the frozen side or under drift."""
    conflict = fresh.groupby("image_id")["label"].transform("nunique") > 1
    fresh.loc[conflict, "why"] = "the same image has other labels too"
    again = fresh.duplicated("image_id") & (fresh["why"] == "")
    fresh.loc[again, "why"] = "an exact copy of another labelled image"
    frozen = old[old["side"] == Side.FROZEN]
    _leave_out(fresh, np.flatnonzero(fresh["why"] == ""), frozen, "the frozen side")
    for lower, higher in ((Side.REFERENCE, Side.DRIFTED), (Side.TRAIN, Side.DRIFTED), (Side.TRAIN, Side.REFERENCE)):
        stands = (fresh["why"] == "").to_numpy()
        ours = np.flatnonzero(stands & (fresh["side"] == lower).to_numpy())
        _leave_out(fresh, ours, fresh[stands & (fresh["side"] == higher).to_numpy()], f"the {higher} side")


def _leave_out(fresh: pd.DataFrame, places: NDArray[np.int64], judging: pd.DataFrame, where: str) -> None:
    rows = fresh.iloc[places]
    nearest = _nearest(rows, judging)
    exact = rows["image_id"].isin(set(judging["image_id"])).to_numpy()
    found = places[exact | (nearest >= 0)]
    fresh.loc[found, "why"] = f"a copy of an image on {where}"
    of = judging["image_id"].to_numpy(object)
    fresh.loc[places[nearest >= 0], "of"] = of[nearest[nearest >= 0]]


def _nearest(rows: pd.DataFrame, others: pd.DataFrame) -> NDArray[np.int64]:
    if rows.empty or others.empty:
        return np.full(len(rows), -1, np.int64)
    return nearest_duplicate(unpack_descriptors(rows[DESCRIPTOR]), unpack_descriptors(others[DESCRIPTOR]))


def _replayed(old: pd.DataFrame, fresh: pd.DataFrame, parameters: ExtensionParameters) -> pd.DataFrame:
    """The frozen side, and a balanced draw of old training images; none that is a copy of a fresh one that judges."""
    learned = int(((fresh["why"] == "") & (fresh["side"] == Side.TRAIN)).sum())
    judging = fresh[(fresh["why"] == "") & (fresh["side"] != Side.TRAIN)]
    train = old[(old["side"] == Side.TRAIN) & ~old["image_id"].isin(set(fresh["image_id"]))]
    train = train[_nearest(train, judging) < 0] if len(judging) else train
    wanted = min(len(train), max(round(parameters.replay * learned), train["label"].nunique()))
    pool = train.assign(draw=draw(f"replay-{parameters.replay_seed}", train["image_id"]))
    pool = pool.sort_values(["label", "draw", "image_id"])
    shares = shares_of(pool["label"].value_counts().sort_index(), wanted)
    chosen = pool[pool.groupby("label").cumcount() < pool["label"].map(shares).astype(float)].drop(columns="draw")
    return pd.concat([old[old["side"] == Side.FROZEN], chosen]).assign(fresh=False)


def _together(fresh: pd.DataFrame, old: pd.DataFrame) -> pd.DataFrame:
    used = fresh[fresh["why"] == ""]
    columns = [*old.columns]
    return pd.concat([old, used[columns]]).sort_values("image_id", kind="stable", ignore_index=True)


def _pack(
    kept: pd.DataFrame,
    base: DatasetVersion,
    index: ImageIndex,
    paths: Paths,
    file: Path,
    progress: Progress,
) -> None:
    """Old images as they are packed already; labelled ones from their files, which the store of originals keeps."""
    arrays = open_arrays(base)
    places = {str(name): place for place, name in enumerate(arrays.ids)}
    shape = (len(kept), base.size, base.size, 3)
    packed = open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
    with adding(paths) as originals:
        for row, (path, name, is_fresh) in enumerate(zip(kept["path"], kept["image_id"], kept["fresh"], strict=True)):
            if is_fresh:
                data = read_image_file(index.source.folder / path)
                packed[row] = resize(decode(data), base.size, base.filter)
                originals.add(name, data)
            else:
                packed[row] = arrays.images[places[name]]
            if (row + 1) % PROGRESS_IMAGES == 0 or row + 1 == len(kept):
                progress("pack images", row + 1, len(kept))
    packed.flush()

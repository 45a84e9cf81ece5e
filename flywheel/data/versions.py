"""Dataset versions: content-addressed folders of packed images that open by memory map.

A folder holds `images.npy` (uint8[N, S, S, 3]), `labels.npy` (int64[N]), `rows.parquet` (id, label, side, path,
measured columns), `left_out.csv`, and `manifest.json`, written last. Rows are sorted by image id, so the same images
give the same bytes on any machine and in any file order.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from flywheel.data.decode import UndecodableImage, decode, image_id, resize
from flywheel.data.folders import building, read_json, sweep, write_json
from flywheel.data.index import DESCRIPTOR, SCHEMA, read_image_file, read_index
from flywheel.data.measurements import STATISTICS
from flywheel.data.originals import adding, held_ids, original_bytes
from flywheel.data.splits import LEFT_OUT, assign_sides, elsewhere, left_out
from flywheel.identity import (
    NAME_DIGITS,
    canonical_json,
    code_version,
    digest,
    digest_of_file,
    digest_of_lines,
    name_of,
)
from flywheel.paths import Paths
from flywheel.progress import Progress, silent
from flywheel.records import DatasetVersion, ImageIndex, Side
from flywheel.settings import DataParameters

__all__ = ["LEFT_OUT", "DatasetArrays", "VersionError", "build_version", "load_version", "open_arrays"]
__all__ += ["check_files", "evaluation_set_id", "original_bytes", "read_left_out", "task_id", "told_elsewhere"]
__all__ += ["version_table"]

log = logging.getLogger(__name__)

MANIFEST, IMAGES, LABELS = "manifest.json", "images.npy", "labels.npy"
ROWS, LEFT_OUT_FILE = "rows.parquet", "left_out.csv"
FILES = (IMAGES, LABELS, ROWS, LEFT_OUT_FILE)
FROZEN_ROLE, DRIFTED_ROLE = "frozen", "drifted"
PROGRESS_IMAGES = 500
ROW_SCHEMA = pa.schema(
    [
        *(SCHEMA.field(name) for name in ("image_id", "label")),
        ("side", pa.string()),
        *(SCHEMA.field(name) for name in ("path", "split", "width", "height", "mode", "bytes")),
        *(SCHEMA.field(name) for name in STATISTICS),
        SCHEMA.field(DESCRIPTOR),
    ]
)


class VersionError(ValueError):
    """A dataset version that is missing, damaged, or can't be made; the message says what to do."""


@dataclass(frozen=True)
class Made:
    """What a version was made of, and how it is packed."""

    source: str
    index_id: str
    quarantined: int
    size: int
    filter: str
    extends: str = ""  # the version that it goes on from


@dataclass(frozen=True)
class DatasetArrays:
    """A version, open by memory map; row i of all of them is one image."""

    images: NDArray[np.uint8]  # [N, S, S, 3], read-only
    labels: NDArray[np.int64]  # [N], positions in the class list
    ids: NDArray[np.str_]  # [N], image ids of 64 hex digits
    sides: NDArray[np.str_]  # [N]
    statistics: NDArray[np.float32]  # [N, 7]
    statistic_names: tuple[str, ...]

    def side(self, side: Side) -> NDArray[np.int64]:
        """The positions of one side's images, ascending."""
        return np.flatnonzero(self.sides == str(side))


def build_version(
    index: ImageIndex,
    quarantined: Collection[int],
    parameters: DataParameters,
    paths: Paths,
    progress: Progress = silent,
) -> DatasetVersion:
    """Assign sides and pack the images of an index, the rows at the `quarantined` positions left out.

    Where the version exists, it is returned without decoding an image. Raises splits.SplitError where there are too few
    images, VersionError where a file changed since it was indexed.
    """
    sweep(paths.datasets)
    if (known := find_version(index, quarantined, parameters, paths)) is not None:
        log.info("dataset version %s is up to date", known.id)
        _warn_of_elsewhere(known)
        return known
    shortcut = _shortcut(index, quarantined, parameters)
    frame = read_index(index, with_descriptors=True)
    usable = frame.drop(index=frame.index[sorted(quarantined)])
    usable = usable[usable["decode_ok"]]
    classes = tuple(sorted(set(usable["label"])))
    assigned = assign_sides(usable, parameters, earlier_sides(paths, task_id(classes)))
    kept = assigned[assigned["why"] == ""].reset_index(drop=True)
    version_id = version_identity(kept, classes, parameters.packed_size, parameters.packed_filter)
    folder = paths.dataset(version_id)
    if not is_finished(folder, paths):
        with building(folder) as part:
            _pack(kept, index, parameters, paths, part, progress)
            write_tables(kept, assigned, classes, part)
            size, chosen = parameters.packed_size, parameters.packed_filter
            made = Made(index.source.name, index.id, len(quarantined), size, chosen)
            write_version_manifest(kept, assigned, classes, version_id, made, part)
    left_out(assigned).to_csv(_listing(shortcut), index=False, lineterminator="\n")
    (kept_side := elsewhere(assigned)).to_csv(_listing_elsewhere(shortcut), index=False, lineterminator="\n")
    out = int((assigned["why"] != "").sum())
    write_json(shortcut, {"id": version_id, "left_out": out, "elsewhere": len(kept_side)})
    version = _made_of(index, quarantined, shortcut, load_version(folder))
    log.info("dataset version %s: %s, %d left out", version.id, _in_words(version.counts), version.left_out)
    _warn_of_elsewhere(version)
    return version


def find_version(
    index: ImageIndex, quarantined: Collection[int], parameters: DataParameters, paths: Paths
) -> DatasetVersion | None:
    """The version that this very input gave before, if it is whole still; None where it has to be made."""
    shortcut = _shortcut(index, quarantined, parameters)
    known = read_json(shortcut)
    listed = _listing(shortcut).is_file() and _listing_elsewhere(shortcut).is_file()
    if known and listed and is_finished(folder := paths.dataset(str(known["id"])), paths):
        return _made_of(index, quarantined, shortcut, load_version(folder))
    return None


def earlier_sides(paths: Paths, task: str) -> dict[str, Side]:
    """The side of every image in the versions of a task that were made here: where it stays, whatever is added.

    Left-over images count as training images, since that is where a larger subset puts them.
    """
    sides: dict[str, Side] = {}
    for manifest in sorted(paths.datasets.glob(f"ds-*/{MANIFEST}")):
        if (read_json(manifest) or {}).get("task_id") == task:
            rows = pq.read_table(manifest.with_name(ROWS), columns=["image_id", "side"])
            told = dict(zip(rows["image_id"].to_pylist(), map(Side, rows["side"].to_pylist()), strict=True))
            sides |= {name: side for name, side in told.items() if side is not Side.UNUSED or name not in sides}
    # what judged under drift once has done so: its decision is on record, and a source may bring it to learn from
    return {name: Side.TRAIN if side in {Side.UNUSED, Side.DRIFTED} else side for name, side in sides.items()}


def _made_of(
    index: ImageIndex, quarantined: Collection[int], shortcut: Path, version: DatasetVersion
) -> DatasetVersion:
    """The version, told of this very input: another one may have the same images, and its own files left out."""
    noted = read_json(shortcut) or {}
    return replace(
        version,
        source=index.source.name,
        index_id=index.id,
        quarantined=len(quarantined),
        left_out=int(noted.get("left_out", version.left_out)),
        left_out_list=_listing(shortcut),
        elsewhere=int(noted.get("elsewhere", 0)),
        elsewhere_list=_listing_elsewhere(shortcut),
    )


def _listing(shortcut: Path) -> Path:
    return shortcut.with_suffix(".csv")


def _listing_elsewhere(shortcut: Path) -> Path:
    return shortcut.with_name(f"{shortcut.stem}-elsewhere.csv")


def told_elsewhere(version: DatasetVersion) -> str:
    """In words, which images of the source's own `test/` or `val/` judge or choose nothing; "" where all do."""
    if not version.elsewhere or version.elsewhere_list is None:
        return ""
    listed = pd.read_csv(version.elsewhere_list, dtype=str, keep_default_na=False)
    splits = " and ".join(f"{split}/" for split in sorted(set(listed["split"])))
    counts = [f"{count:,} {side}" for side in Side if (count := int((listed["side"] == side).sum()))]
    return (
        f"{version.elsewhere:,} {'image' if version.elsewhere == 1 else 'images'} under {splits} kept the side of an "
        f"earlier version, since a model may have learned from what moved there: {', '.join(counts)} "
        f"(first {listed['path'].iloc[0]})"
    )


def _warn_of_elsewhere(version: DatasetVersion) -> None:
    if told := told_elsewhere(version):
        log.warning("dataset version %s: %s; all of them: %s", version.id, told, version.elsewhere_list)


def load_version(folder: Path) -> DatasetVersion:
    """The version in a folder, by its manifest. Raises VersionError where a file is missing or of another length."""
    manifest = read_json(folder / MANIFEST)
    if manifest is None:
        raise VersionError(f"{folder}: a dataset version expected, no {MANIFEST} found. Run 'make data' to make it.")
    for name, expected in manifest["files"].items():
        found = (folder / name).stat().st_size if (folder / name).exists() else 0
        if found != expected["bytes"]:
            raise VersionError(
                f"{folder / name}: {expected['bytes']:,} bytes expected, {found:,} found. Delete the folder {folder} "
                "and run 'make data'; the same version is made again."
            )
    return DatasetVersion(
        id=manifest["id"],
        folder=folder,
        source=manifest["source"],
        index_id=manifest["index_id"],
        classes=tuple(manifest["classes"]),
        counts=manifest["counts"],
        size=manifest["size"],
        filter=manifest["filter"],
        evaluation_set_id=manifest["evaluation_set_id"],
        quarantined=manifest["quarantined"],
        left_out=manifest["left_out"],
        task_id=manifest["task_id"],
        extends=manifest.get("extends", ""),
        drifted_set_id=manifest.get("drifted_set_id", ""),
    )


def check_files(version: DatasetVersion) -> None:
    """Read every file and compare its hash with the manifest's. Raises VersionError for the first that differs."""
    manifest = read_json(version.folder / MANIFEST) or {"files": {}}
    for name, expected in manifest["files"].items():
        found = digest_of_file(version.folder / name)
        if found != expected["sha256"]:
            raise VersionError(
                f"{version.folder / name}: SHA-256 {expected['sha256']} expected, {found} found. Delete the folder "
                f"{version.folder} and run 'make data'; the same version is made again."
            )


def open_arrays(version: DatasetVersion) -> DatasetArrays:
    """The version's arrays; the images stay on disk until they are read."""
    rows = pq.read_table(version.folder / ROWS, columns=["image_id", "side", *STATISTICS])
    return DatasetArrays(
        images=np.load(version.folder / IMAGES, mmap_mode="r"),
        labels=np.load(version.folder / LABELS),
        ids=np.array(rows["image_id"].to_pylist(), np.str_),
        sides=np.array(rows["side"].to_pylist(), np.str_),
        statistics=np.column_stack([rows[name].to_numpy() for name in STATISTICS]).astype(np.float32),
        statistic_names=STATISTICS,
    )


def version_table(version: DatasetVersion, with_descriptors: bool = False) -> pd.DataFrame:
    """One row an image, as the suite reads it: image_id, label, side, path (in the source), size, mode, statistics."""
    columns = [name for name in ROW_SCHEMA.names if with_descriptors or name != DESCRIPTOR]
    return pd.DataFrame(pq.read_table(version.folder / ROWS, columns=columns).to_pandas())


def read_left_out(version: DatasetVersion) -> pd.DataFrame:
    """The images that are not in the version, with the reason; columns LEFT_OUT, all text."""
    return pd.read_csv(version.folder / LEFT_OUT_FILE, dtype=str, keep_default_na=False)


def task_id(classes: Collection[str]) -> str:
    return name_of("task", list(classes))


def evaluation_set_id(ids: Collection[str], labels: Collection[str], classes: Collection[str], role: str) -> str:
    """The name of a set of labelled images that judges models."""
    rows = sorted(zip(ids, labels, strict=True))
    return name_of("evalset", [digest_of_lines(map(canonical_json, rows)), list(classes), role])


def version_identity(rows: pd.DataFrame, classes: tuple[str, ...], size: int, filter: str) -> str:
    """`ds-…` of a version's rows (image_id, label, side) and of how they are packed."""
    lines = sorted(zip(rows["image_id"], rows["label"], rows["side"].map(str), strict=True))
    return name_of("ds", [digest_of_lines(map(canonical_json, lines)), classes, size, filter])


def _shortcut(index: ImageIndex, quarantined: Collection[int], parameters: DataParameters) -> Path:
    """A note beside the index, which version the same input gave by the same code: saves looking for duplicates."""
    code = code_version(Path(__file__).parent.parent, ["data"])
    chosen = parameters.model_dump(include={"subset", "subset_seed"})
    chosen |= {"size": parameters.packed_size, "filter": parameters.packed_filter}
    return index.path.with_name(f"version-{digest([code, index.id, sorted(quarantined), chosen])[:NAME_DIGITS]}.json")


def is_finished(folder: Path, paths: Paths) -> bool:
    """False for a damaged one too, or one whose originals are gone: what can be made again is."""
    try:
        version = load_version(folder)
        check_files(version)
    except VersionError as error:
        log.debug("%s", error)
        return False
    ids = pq.read_table(folder / ROWS, columns=["image_id"])["image_id"].to_pylist()
    return {str(name).encode() for name in ids} <= held_ids(paths.images)


def _pack(
    kept: pd.DataFrame, index: ImageIndex, parameters: DataParameters, paths: Paths, folder: Path, progress: Progress
) -> None:
    size = parameters.packed_size
    packed = open_memmap(folder / IMAGES, mode="w+", dtype=np.uint8, shape=(len(kept), size, size, 3))
    with adding(paths) as originals:
        for row, (path, known_id) in enumerate(zip(kept["path"], kept["image_id"], strict=True)):
            data, image = _read_again(index.source.folder / path, known_id)
            packed[row] = resize(image, size, parameters.packed_filter)
            originals.add(known_id, data)
            if (row + 1) % PROGRESS_IMAGES == 0 or row + 1 == len(kept):
                progress("pack images", row + 1, len(kept))
    packed.flush()


def _read_again(path: Path, known_id: str) -> tuple[bytes, NDArray[np.uint8]]:
    try:
        data = read_image_file(path)
        image = decode(data)
        found = image_id(image)
    except UndecodableImage as error:
        raise VersionError(
            f"{path}: the image that was indexed expected, but {error} Run 'make data' again."
        ) from error
    if found != known_id:
        raise VersionError(f"{path}: the image that was indexed expected, another one found. Run 'make data' again.")
    return data, image


def write_tables(kept: pd.DataFrame, assigned: pd.DataFrame, classes: tuple[str, ...], folder: Path) -> None:
    position = {label: place for place, label in enumerate(classes)}
    np.save(folder / LABELS, kept["label"].map(position).to_numpy(np.int64))
    columns = kept.assign(side=kept["side"].map(str))[ROW_SCHEMA.names]
    table = pa.Table.from_pandas(columns, ROW_SCHEMA, preserve_index=False).replace_schema_metadata()
    pq.write_table(table, folder / ROWS, compression="zstd")
    left_out(assigned).to_csv(folder / LEFT_OUT_FILE, index=False, lineterminator="\n")


def write_version_manifest(
    kept: pd.DataFrame, assigned: pd.DataFrame, classes: tuple[str, ...], version_id: str, made: Made, folder: Path
) -> None:
    """Last of all files. What stands on no side of an ordinary version, drift's evaluation set, is named where it is
    there."""
    frozen, drifted = kept[kept["side"] == Side.FROZEN], kept[kept["side"] == Side.DRIFTED]
    counts = kept["side"].map(str).value_counts()
    manifest: dict[str, Any] = {
        "id": version_id,
        "source": made.source,
        "index_id": made.index_id,
        "classes": list(classes),
        "counts": {str(side): int(counts.get(str(side), 0)) for side in Side if side is not Side.DRIFTED},
        "size": made.size,
        "filter": made.filter,
        "evaluation_set_id": evaluation_set_id(frozen["image_id"], frozen["label"], classes, FROZEN_ROLE),
        "task_id": task_id(classes),
        "quarantined": made.quarantined,
        "left_out": int((assigned["why"] != "").sum()),
        "files": {
            name: {"bytes": (folder / name).stat().st_size, "sha256": digest_of_file(folder / name)} for name in FILES
        },
    }
    if made.extends:
        manifest["extends"] = made.extends
        manifest["counts"][str(Side.DRIFTED)] = len(drifted)
        manifest["drifted_set_id"] = evaluation_set_id(drifted["image_id"], drifted["label"], classes, DRIFTED_ROLE)
    write_json(folder / MANIFEST, manifest)


def _in_words(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {side}" for side, count in counts.items())

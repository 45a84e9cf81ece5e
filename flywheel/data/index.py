"""The index of a source: one row an image, as Parquet, from one reading of each file."""

import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flywheel.data.decode import UndecodableImage, decode, image_id, mode_of
from flywheel.data.descriptors import DESCRIPTOR_LENGTH, descriptors
from flywheel.data.folders import building, read_json, sweep, write_json
from flywheel.data.measurements import STATISTICS, measurable, statistics
from flywheel.data.tree import ImageFile, Tree, read_tree
from flywheel.identity import canonical_json, digest_of_lines, name_of
from flywheel.paths import Paths
from flywheel.progress import Progress, silent
from flywheel.records import ImageIndex, Source

log = logging.getLogger(__name__)

FORMAT = 1  # raised when columns change their meaning: older indexes are made again
MANIFEST, TABLE = "index.json", "index.parquet"
DESCRIPTOR = "descriptor"  # int16[63] as bytes; empty where undecodable
_TEXT, _WHOLE, _NUMBER = pa.string(), pa.int64(), pa.float32()
SCHEMA = pa.schema(
    [("path", _TEXT), ("split", _TEXT), ("label", _TEXT), ("image_id", _TEXT)]
    + [("width", _WHOLE), ("height", _WHOLE), ("mode", _TEXT), ("bytes", _WHOLE)]
    + [("decode_ok", pa.bool_()), ("error", _TEXT)]
    + [(name, _NUMBER) for name in STATISTICS]
    + [(DESCRIPTOR, pa.binary())]
)
COLUMNS = tuple(name for name in SCHEMA.names if name != DESCRIPTOR)
MAX_FILE_BYTES = 512 * 1024**2  # an image of the most pixels allowed, uncompressed at 16 bits, fits
BATCH_IMAGES = 512
BATCH_BYTES = 64 * 1024**2  # of decoded pixels that wait for their statistics
PROGRESS_FILES = 500


def build_index(source: Source, paths: Paths, progress: Progress = silent) -> ImageIndex:
    """Read every image of the source once and write `data/interim/<idx-…>/`.

    Rows are sorted by (split, label, path). A file that can't be read or decoded is a row with `decode_ok` False and
    its reason in `error`; its image id and statistics are null. Where a finished index was made of the same files
    (path, size, time), it is returned without reading them. Raises tree.TreeError where there are no class folders.
    """
    tree = read_tree(source.folder)
    files = tree.files
    sweep(paths.interim)
    fingerprint = files_fingerprint(source.folder, tree)
    found = _find(source, fingerprint, paths)
    if found is not None:
        log.info("index %s of %s is up to date: %d images", found.id, source.name, found.images)
        return found
    table = pa.concat_tables([*_measured(source.folder, files, progress), SCHEMA.empty_table()])
    table = table.take(pa.compute.sort_indices(table, [(key, "ascending") for key in ("split", "label", "path")]))
    identity = index_identity(table, tree.classes)
    index = ImageIndex(
        id=identity,
        path=paths.index(identity) / TABLE,
        source=source,
        images=table.num_rows,
        classes=tree.classes,
    )
    with building(paths.index(index.id)) as folder:
        pq.write_table(table, folder / TABLE, compression="zstd")
        write_json(folder / MANIFEST, _manifest(index, fingerprint))
    bad = table.num_rows - int(pa.compute.sum(table["decode_ok"]).as_py() or 0)
    log.info("indexed %d images of %s: %d undecodable, %s", index.images, source.name, bad, index.id)
    return index


def find_index(source: Source, paths: Paths) -> ImageIndex | None:
    """The finished index of the files as they lie there now (path, size, time), of which none is read; None without."""
    return _find(source, files_fingerprint(source.folder, read_tree(source.folder)), paths)


def read_index(index: ImageIndex, with_descriptors: bool = False) -> pd.DataFrame:
    """The rows, COLUMNS in order; with their descriptors as bytes (see `unpack_descriptors`) where asked."""
    columns = [*COLUMNS, DESCRIPTOR] if with_descriptors else list(COLUMNS)
    return pd.DataFrame(pq.read_table(index.path, columns=columns).to_pandas())


def unpack_descriptors(column: "pd.Series[Any]") -> NDArray[np.int16]:
    """The column of bytes → int16[N, 63]. All rows must be of decodable images."""
    return np.frombuffer(b"".join(column), "<i2").reshape(-1, DESCRIPTOR_LENGTH)


def read_image_file(path: Path | str) -> bytes:
    """The bytes of a plain file of bearable size. Raises UndecodableImage otherwise, and never waits for a pipe."""
    try:
        status = os.stat(path)  # noqa: PTH116 - at a small file, a Path costs as much as reading it
        if not stat.S_ISREG(status.st_mode):
            raise UndecodableImage("it is not a plain file.")
        if status.st_size > MAX_FILE_BYTES:
            raise UndecodableImage(f"it has {status.st_size:,} bytes, more than the {MAX_FILE_BYTES:,} allowed.")
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read()
    except OSError as error:
        raise UndecodableImage(f"it could not be read: {error.strerror or error}.") from error


@dataclass
class _Batch:
    """Decoded images that wait to be measured, by size."""

    images: dict[tuple[int, ...], list[NDArray[np.uint8]]] = field(default_factory=dict)
    rows: dict[tuple[int, ...], list[dict[str, Any]]] = field(default_factory=dict)
    count: int = 0
    waiting_bytes: int = 0

    def add(self, image: NDArray[np.uint8], row: dict[str, Any]) -> None:
        self.images.setdefault(image.shape, []).append(image)
        self.rows.setdefault(image.shape, []).append(row)
        self.count += 1
        self.waiting_bytes += image.nbytes

    def measure(self) -> None:
        """Fill statistics and descriptors into the rows."""
        for shape, images in self.images.items():
            stacked = np.stack(images)
            numbers, shapes = statistics(stacked), descriptors(stacked)
            for row, values, descriptor in zip(self.rows[shape], numbers.tolist(), shapes, strict=True):
                row.update(zip(STATISTICS, values, strict=True))
                row[DESCRIPTOR] = descriptor.astype("<i2").tobytes()


def _measured(folder: Path, files: list[ImageFile], progress: Progress) -> Iterator[pa.Table]:
    rows: list[dict[str, Any]] = []
    batch = _Batch()
    for done, file in enumerate(files, 1):
        rows.append(_row(folder, file, batch))
        if batch.count >= BATCH_IMAGES or batch.waiting_bytes >= BATCH_BYTES or done == len(files):
            batch.measure()
            yield pa.Table.from_pylist(rows, SCHEMA)
            rows, batch = [], _Batch()
        if done % PROGRESS_FILES == 0 or done == len(files):
            progress("index", done, len(files))


def _row(folder: Path, file: ImageFile, batch: _Batch) -> dict[str, Any]:
    """One file's row; its image goes into the batch. Numbers of an undecodable one stay null."""
    row: dict[str, Any] = {"path": file.path, "split": file.split, "label": file.label, "decode_ok": False, "error": ""}
    row |= {"image_id": None, "width": 0, "height": 0, "mode": "", "bytes": 0, DESCRIPTOR: b""}
    try:
        path = _text_path(file.path)
        data = read_image_file(f"{folder}/{path}")
        row["bytes"] = len(data)
        image = decode(data)
    except UndecodableImage as error:
        row.update(path=file.path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
        return row | {"error": str(error)}
    row.update(
        decode_ok=True, image_id=image_id(image), mode=mode_of(data), height=image.shape[0], width=image.shape[1]
    )
    batch.add(measurable(image), row)
    return row


def _text_path(path: str) -> str:
    """Parquet and JSON hold Unicode only, so a file must have such a name to be found again."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UndecodableImage("its name is not valid UTF-8; rename it.") from error
    return path


def index_identity(table: pa.Table, classes: tuple[str, ...]) -> str:
    """`idx-…` of an index's rows. Content only, not times: a copy of the folder has the same index."""
    columns = [table[name].to_pylist() for name in ("split", "label", "path", "image_id", "bytes", "decode_ok")]
    rows = digest_of_lines(canonical_json(row) for row in zip(*columns, strict=True))
    return name_of("idx", [FORMAT, list(classes), rows])


def files_fingerprint(folder: Path, tree: Tree) -> str:
    """Of the classes, and of path, size and time of every file: it says unread that they are the same as before."""

    def line(file: ImageFile) -> str:
        try:
            status = os.stat(folder / file.path)  # noqa: PTH116 - Path.stat costs twice as much
        except OSError:
            return canonical_json([os.fsencode(file.path).hex(), "unreadable"])
        return canonical_json([os.fsencode(file.path).hex(), status.st_size, status.st_mtime_ns])

    return digest_of_lines([canonical_json(tree.classes), *map(line, tree.files)])


def _manifest(index: ImageIndex, fingerprint: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "id": index.id,
        "source": index.source.name,
        "folder": os.fsencode(index.source.folder).hex(),
        "fingerprint": fingerprint,
        "images": index.images,
        "classes": list(index.classes),
    }


def _find(source: Source, fingerprint: str, paths: Paths) -> ImageIndex | None:
    """A finished index of the same files; an unreadable one counts as none, and is made again."""
    wanted = {"format": FORMAT, "folder": os.fsencode(source.folder).hex(), "fingerprint": fingerprint}
    for manifest_path in sorted(paths.interim.glob(f"idx-*/{MANIFEST}")):
        manifest = read_json(manifest_path)
        table = manifest_path.with_name(TABLE)
        if manifest and wanted.items() <= manifest.items() and _rows(table) == manifest["images"]:
            return ImageIndex(manifest["id"], table, source, manifest["images"], tuple(manifest["classes"]))
    return None


def _rows(table: Path) -> int:
    try:
        return int(pq.read_metadata(table).num_rows)
    except (OSError, pa.ArrowInvalid):
        return -1

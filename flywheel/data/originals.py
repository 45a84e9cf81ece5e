"""The original bytes of every image of every version, by image id: few large files instead of many small ones.

A pack is `<name>.bin`, the files one after another, and `<name>.npy`, where each lies, sorted by image id. The second
is written last: a `.bin` without it is what a killed run left. Packs are never changed; an image that one pack holds is
in no later one.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flywheel.data.folders import temporary_folder
from flywheel.identity import NAME_DIGITS, digest_of_lines
from flywheel.paths import Paths

PLACE = np.dtype([("id", "S64"), ("offset", "<u8"), ("length", "<u8")])


class OriginalError(ValueError):
    """An image whose original bytes are not held."""


class PackWriter:
    """Adds the originals of one version; used as `with adding(paths) as pack: pack.add(...)`."""

    def __init__(self, folder: Path, held: set[bytes]) -> None:
        self.places: list[tuple[bytes, int, int]] = []
        self.held = held
        self.offset = 0
        self.folder = folder
        self.file = (folder / "bin").open("wb")

    def add(self, image_id: str, data: bytes) -> None:
        """Keep the bytes, unless a pack holds an original of this image already."""
        key = image_id.encode()
        if key not in self.held:
            self.file.write(data)
            self.places.append((key, self.offset, len(data)))
            self.held.add(key)
            self.offset += len(data)

    def publish(self, images: Path) -> None:
        """Give the pack its name, the hash of its image ids."""
        self.file.close()
        if not self.places:
            return
        places = np.sort(np.array(self.places, PLACE), order="id")
        name = f"pack-{digest_of_lines(key.decode() for key in places['id'])[:NAME_DIGITS]}"
        np.save(self.folder / "npy", places)
        (self.folder / "bin").replace(images / f"{name}.bin")
        (self.folder / "npy.npy").replace(images / f"{name}.npy")


def adding(paths: Paths) -> "_Adding":
    """A PackWriter whose pack appears when the block ends without an error."""
    return _Adding(paths.images)


class _Adding:
    def __init__(self, images: Path) -> None:
        self.images = images
        self.folder = temporary_folder(images, "pack")

    def __enter__(self) -> PackWriter:
        self.writer = PackWriter(self.folder.__enter__(), held_ids(self.images))
        return self.writer

    def __exit__(self, *error: object) -> None:
        try:
            if error[0] is None:
                self.writer.publish(self.images)
        finally:
            self.writer.file.close()
            self.folder.__exit__(None, None, None)


def held_ids(images: Path) -> set[bytes]:
    """The image ids, as ASCII, that some pack holds."""
    return {key for places, _ in _packs(images) for key in places["id"].tolist()}


def original_bytes(paths: Paths, image_id: str) -> bytes:
    """The file that an image was read from, as it was. Raises OriginalError where no pack holds the image."""
    key = image_id.encode()
    for places, file in _packs(paths.images):
        at = int(np.searchsorted(places["id"], np.bytes_(key)))
        if at < len(places) and places["id"][at] == key:
            with file.open("rb") as pack:
                pack.seek(int(places["offset"][at]))
                return pack.read(int(places["length"][at]))
    raise OriginalError(f"{image_id}: no original in {paths.images}. Run 'make data' with its source again.")


def _packs(images: Path) -> Iterator[tuple[NDArray[np.void], Path]]:
    for index in sorted(images.glob("pack-*.npy")):
        places, pack = _places(index, index.stat().st_mtime_ns), index.with_suffix(".bin")
        whole = int((places["offset"] + places["length"]).max(initial=0))
        if pack.is_file() and pack.stat().st_size == whole:  # one that was cut or removed holds nothing
            yield places, pack


@cache
def _places(index: Path, mtime_ns: int) -> NDArray[np.void]:  # noqa: ARG001 - the time is part of the cache's key
    places: NDArray[np.void] = np.load(index)
    return places

"""Folders of `data/raw`: a source unpacked whole, which its mark, written last, says.

The mark is a hidden file inside the folder with the number of files, so that a folder that lost some is noticed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flywheel.data.folders import building, read_json, write_json

MARK = ".flywheel.json"


class RawFolderError(ValueError):
    """A folder of `data/raw` that is not what was unpacked."""


def mark_of(folder: Path) -> dict[str, Any] | None:
    """What the folder was made of; None where it is missing or not whole."""
    return read_json(folder / MARK)


def is_whole(folder: Path) -> bool:
    """False where the folder has to be made. Raises RawFolderError where files of a finished one are missing or new."""
    mark = mark_of(folder)
    if mark is None:
        return False
    expected, found = int(mark["files"]), count_files(folder)
    if expected != found:
        raise RawFolderError(
            f"{folder}: {expected:,} files expected, {found:,} found. Delete the folder; the next run makes it again."
        )
    return True


@contextmanager
def making(folder: Path, **origin: object) -> Iterator[Path]:
    """The folder under a temporary name; marked and renamed when the block ends without an error."""
    with building(folder) as part:
        yield part
        write_json(part / MARK, {**origin, "files": count_files(part)})


def count_files(folder: Path) -> int:
    """Files at any depth, the mark not among them."""
    return sum(name != MARK for _, _, names in os.walk(folder) for name in names)

"""How a folder comes to be whole or not at all: built under a temporary name, then renamed.

A builder holds a lock on its temporary folder, which the operating system drops when the process ends, however it ends.
So what is left of a killed run can be told from what another process is building, and is swept on the next run.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flywheel.identity import canonical_json

BUILDING = ".building-"  # hidden, so that no listing takes it for a result


@contextmanager
def temporary_folder(parent: Path, name: str = "") -> Iterator[Path]:
    """A fresh folder in `parent`, gone when the block ends; what is to stay is renamed out of it."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{BUILDING}{name}-", dir=parent))
    folder.chmod(0o755)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def building(final: Path) -> Iterator[Path]:
    """A fresh folder beside `final` that takes its name when the block ends without an error.

    Where another process finished the same folder meanwhile, or an unfinished one lies there, this one takes its place:
    the name is the content, so whole folders of one name are equal.
    """
    with temporary_folder(final.parent, final.name) as folder:
        yield folder
        _take_name(folder, final)


def sweep(parent: Path) -> int:
    """Remove temporary folders and files whose builder is gone; returns how many."""
    swept = 0
    for path in sorted(parent.glob(f"{BUILDING}*")):
        try:
            lock = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            swept += 1
        except (BlockingIOError, FileNotFoundError):
            continue
        finally:
            os.close(lock)
    return swept


def write_json(path: Path, content: object) -> None:
    """A manifest: canonical JSON on disk before its name appears."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with part.open("w", encoding="utf-8") as file:
        file.write(canonical_json(content) + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """The manifest's content; None where it is missing or not JSON, which is the same: there is no whole folder."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _take_name(folder: Path, final: Path) -> None:
    try:
        folder.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        old = Path(tempfile.mkdtemp(prefix=f"{BUILDING}old-", dir=final.parent))
        final.rename(old / final.name)
        folder.rename(final)
        shutil.rmtree(old, ignore_errors=True)

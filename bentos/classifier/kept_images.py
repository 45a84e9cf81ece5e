"""The bytes of images that were classified, on disk by image id: a sample, and those whose label is asked for."""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from flywheel.paths import Paths

log = logging.getLogger(__name__)

SWEEP_SECONDS = 30.0
LOOKING_SHARE = 50  # a folder of many files is looked at for a fiftieth of the time at most
SWEPT_TO = 0.9  # of the cap, so that not every image sweeps


class KeptImages:
    """A folder with a cap. Several workers share it; the oldest files go first, those that are waited for never."""

    def __init__(self, paths: Paths, most_bytes: int, waited_for: Callable[[], set[str]]) -> None:
        self.path = paths.predicted_image
        self.folder = paths.predicted
        self._most_bytes = most_bytes
        self._waited_for = waited_for  # image ids
        self._size = 0
        self._look_at = 0.0  # the clock's time of the next look

    def keep(self, image_id: str, data: bytes) -> bool:
        """Whether the bytes are on disk now. A full folder, or one that can't be written, keeps nothing."""
        path = self.path(image_id)
        try:
            if path.exists():
                return True
            if not self._has_room(len(data)):
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(f".{image_id}.{os.getpid()}")
            unfinished.write_bytes(data)
            unfinished.replace(path)
        except OSError as error:
            log.warning("%s: an image's bytes can't be kept (%s)", self.folder, error)
            return False
        self._size += len(data)
        return True

    def read(self, image_id: str) -> bytes | None:
        with contextlib.suppress(OSError):
            return self.path(image_id).read_bytes()
        return None

    def _has_room(self, more: int) -> bool:
        """By what was counted at the last look and written since; other workers' share is seen at the next look."""
        if time.monotonic() >= self._look_at:
            began = time.monotonic()
            self._look()
            took = time.monotonic() - began
            self._look_at = time.monotonic() + max(SWEEP_SECONDS, LOOKING_SHARE * took)
        return self._size + more <= self._most_bytes

    def _look(self) -> None:
        """Counts the folder, and sweeps it where it is nearly full."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            files = sorted(self._files())
            self._size = sum(size for _, size, _ in files)
            if self._size <= self._most_bytes * SWEPT_TO:
                return
            needed = self._waited_for()
            for _, size, path in files:
                if self._size <= self._most_bytes * SWEPT_TO:
                    return
                if path.name not in needed:
                    path.unlink(missing_ok=True)
                    self._size -= size

    def _files(self) -> list[tuple[float, int, Path]]:
        found = []
        for folder in self.folder.glob("??"):
            with os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        status = entry.stat()
                        found.append((status.st_mtime, status.st_size, Path(entry.path)))
        return found

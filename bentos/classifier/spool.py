"""Rows of the prediction log that wait on this machine's disk for their database: a SQLite file a worker.

A file belongs to whoever holds its lock. One that a dead worker left behind is taken over by the next that starts.
"""

import contextlib
import fcntl
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO
from uuid import uuid4

from flywheel.ledger.predictions import PredictionLog, PredictionRow, Serving, open_predictions

log = logging.getLogger(__name__)

NAME = "predictions-{}.db"
SUFFIXES = ("", "-wal", "-shm", ".lock")


class Spool:
    """Opened at the first row that needs it, so a service whose database answers leaves no file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.file = self._own()
        self.rows = 0  # that wait
        self._log: PredictionLog | None = None
        self._lock: IO[str] | None = None
        self._adopt()

    def append(self, entered: Sequence[Serving], rows: Sequence[PredictionRow]) -> None:
        self._opened().append(entered, rows)
        self.rows += len(rows)

    def first(self, count: int) -> tuple[list[Serving], list[PredictionRow]]:
        """The oldest rows, with the servings that they name."""
        found = self._opened().after(0, count)
        if not found:
            self.rows = 0
        servings = {each.serving.id: each.serving for each in found}
        return list(servings.values()), [each.row for each in found]

    def remove(self, rows: Sequence[PredictionRow]) -> None:
        if rows:
            self._opened().remove(rows)
            self.rows = max(0, self.rows - len(rows))
        if not self.rows and self._log is not None:
            self.rows = len(self._log.after(0, 1))
        if not self.rows:
            self._remove_file()

    def set_aside(self, error: Exception) -> None:
        """A file that can't be read is left under another name, for a person; it holds up nothing."""
        damaged = self.file.with_name(f"{self.file.name}.damaged")
        log.error("%s: rows of the prediction log can't be read (%s); left as %s", self.file, error, damaged.name)
        if self._log is not None:
            self._log.close()
            self._log = None
        with contextlib.suppress(OSError):
            self.file.rename(damaged)
        self.rows = 0
        self._remove_file()
        if self._lock is None:  # none was adopted: the next row begins a file
            self.file = self._own()

    def close(self) -> None:
        """What waits stays on disk for the next worker."""
        if self.rows == 0:
            self._remove_file()
        elif self._log is not None:
            self._log.close()
            self._log = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _own(self) -> Path:
        return self._folder / NAME.format(f"{os.getpid()}-{uuid4().hex[:8]}")

    def _opened(self) -> PredictionLog:
        if self._log is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._lock or _locked(self.file)
            self._log = open_predictions(f"sqlite:///{self.file}", hasty=True)
        return self._log

    def _adopt(self) -> None:
        """Takes over one file whose owner is dead; another worker takes the next."""
        for file in sorted(self._folder.glob(NAME.format("*"))):
            lock = _locked(file)
            if lock is None:
                continue
            if file.exists():
                self.file, self._lock = file, lock
                self.rows = 1  # at least: `first` tells
                return
            file.with_name(f"{file.name}.lock").unlink(missing_ok=True)  # its owner removed it meanwhile
            lock.close()

    def _remove_file(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._lock is not None:
            for suffix in SUFFIXES:
                with contextlib.suppress(FileNotFoundError):
                    self.file.with_name(self.file.name + suffix).unlink()
            self._lock.close()
            self._lock = None
        self._adopt()


def _locked(file: Path) -> IO[str] | None:
    """The file's lock, or None where its owner lives."""
    lock = file.with_name(f"{file.name}.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock

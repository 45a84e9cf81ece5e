"""What the workers of one service share: a folder of this machine, named for the process that started them.

Each worker notes there that it is ready, so that any of them can tell whether all are; the buckets of the rate limit,
the metrics and the log's figures lie there too. The last one that stops takes the folder away; that of a service that
was killed is swept by the next.

A process is its number and its start: numbers come again, in a container that starts anew nearly always, and a note of
its former life must not stand for a worker of this one.
"""

import contextlib
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

import psutil

PREFIX = "flywheel-crew-"
STALE_SECONDS = 60.0


class Crew:
    """The workers of one service."""

    def __init__(self, workers: int, parent: int | None = None, root: Path | None = None) -> None:
        self.workers = workers
        root = root or Path(tempfile.gettempdir())
        self.folder = root / f"{PREFIX}{os.getuid()}-{identity(parent or os.getppid())}"
        _sweep(root)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        _demand_own(self.folder)
        own = identity(os.getpid())
        self._starting, self._ready = self.folder / f"starting-{own}", self.folder / f"ready-{own}"
        self._starting.touch()

    def note_ready(self) -> None:
        """This process has its model, and answers."""
        self._starting.rename(self._ready)

    def leave(self) -> None:
        """Raises nothing: another may have taken the folder away."""
        self._starting.unlink(missing_ok=True)
        self._ready.unlink(missing_ok=True)
        if not _living(self.folder, "*"):
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def ready(self) -> int:
        """Workers that are ready and live: one that was killed has left its note, but its process is gone."""
        return _living(self.folder, "ready")


def identity(pid: int) -> str:
    """A process, as no other will be called; its number alone where it is gone."""
    return f"{pid}-{_started(pid) or 0}"


def is_alive(process: str) -> bool:
    """Whether the process that `identity` called so still runs."""
    pid, _, started = process.partition("-")
    return pid.isdecimal() and started != "0" and str(_started(int(pid))) == started


def _started(pid: int) -> int | None:
    """When a process started, in a unit of the system's; None where there is none, or a dead one that its parent has
    not looked at yet."""
    with contextlib.suppress(OSError, psutil.Error):
        if Path("/proc/self/stat").exists():
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            state, *rest = text.rpartition(")")[2].split()
            return None if state in {"Z", "X"} else int(rest[18])  # field 22: in ticks since the machine's start
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time())
    return None


def _living(folder: Path, kind: str) -> int:
    return sum(is_alive(note.name.partition("-")[2]) for note in folder.glob(f"{kind}-*-*"))


def _demand_own(folder: Path) -> None:
    """Raises PermissionError where somebody else has made a folder of this name first."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder}: a folder of this user alone expected. Remove it, and start again.")


def _sweep(root: Path) -> None:
    """Folders of services whose processes are all dead. Workers may outlive the one that started them."""
    start = f"{PREFIX}{os.getuid()}-"
    for folder in root.glob(f"{start}*"):
        with contextlib.suppress(OSError):
            old = time.time() - folder.stat().st_mtime > STALE_SECONDS
            if old and not is_alive(folder.name.removeprefix(start)) and not _living(folder, "*"):
                shutil.rmtree(folder, ignore_errors=True)

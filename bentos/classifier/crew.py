"""What the workers of one service share: a folder of this machine, named for the process that started them.

Each worker notes there that it is ready, so that any of them can tell whether all are; the buckets of the rate limit
and the metrics lie there too. The last one that stops takes the folder away; that of a service that was killed is swept
by the next.
"""

import contextlib
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

PREFIX = "flywheel-service-"
STALE_SECONDS = 60.0


class Crew:
    """The workers of one service."""

    def __init__(self, workers: int, parent: int | None = None, root: Path | None = None) -> None:
        self.workers = workers
        parent = parent or os.getppid()
        root = root or Path(tempfile.gettempdir())
        self.folder = root / f"{PREFIX}{os.getuid()}-{parent}"
        _sweep(root)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        _demand_own(self.folder)

    def note_ready(self) -> None:
        """This process has its model, and answers."""
        (self.folder / f"ready-{os.getpid()}").touch()

    def leave(self) -> None:
        (self.folder / f"ready-{os.getpid()}").unlink(missing_ok=True)
        if not any(_alive(pid) for pid in self._noted()):
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def ready(self) -> int:
        """Workers that are ready and live: one that was killed has left its note, but its process is gone."""
        return sum(_alive(pid) for pid in self._noted())

    def _noted(self) -> list[int]:
        with contextlib.suppress(FileNotFoundError):
            return [int(file.name.partition("-")[2]) for file in self.folder.glob("ready-*")]
        return []


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False  # the number has gone to another user's process
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """A killed worker that its parent has not looked at yet; Linux only, elsewhere it counts until then."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    return False


def _demand_own(folder: Path) -> None:
    """Raises PermissionError where somebody else has made a folder of this name first."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder}: a folder of this user alone expected. Remove it, and start again.")


def _sweep(root: Path) -> None:
    """Folders of services whose parent is dead."""
    for folder in root.glob(f"{PREFIX}{os.getuid()}-*"):
        parent = folder.name.rpartition("-")[2]
        with contextlib.suppress(OSError):
            if parent.isdecimal() and not _alive(int(parent)) and time.time() - folder.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)

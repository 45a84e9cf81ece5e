"""Processes that outlive the command which started them: started, found again, and ended by pid and start time.

A pid is given to another process after its own has ended. So a process counts as ours only while it started at the
very time that was noted beside its pid, or while its environment carries the mark of this home.
"""

import fcntl
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

MARK = "FLYWHEEL_STARTED_BY"  # in the environment of all that is started here, and of their children
SAME_START_SECONDS = 1.0  # a reboot of the clock moves start times a little; a pid comes back much later
SECONDS_TO_END = 20.0
LOG_CHARACTERS = 2000


class ProcessError(RuntimeError):
    """A process could not be started, or ended by itself; the message says which, why and what to do."""


@dataclass(frozen=True)
class Started:
    """One process, as it is noted on disk."""

    name: str
    pid: int
    started: float  # seconds since the epoch
    port: int  # 0 where it listens to none
    log: str

    @property
    def alive(self) -> bool:
        return self.process() is not None

    def process(self) -> psutil.Process | None:
        """The process itself, while it is this one and not another under its pid."""
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.started) < SAME_START_SECONDS
            return found if same and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


class Book:
    """The notes of one home: `.flywheel/processes/<name>.json`, logs in `.flywheel/logs/<name>.log`."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._folder = state / "processes"

    def read(self, name: str) -> Started | None:
        """What was noted, whether or not it lives still."""
        try:
            return Started(**json.loads((self._folder / f"{name}.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def living(self, name: str) -> Started | None:
        noted = self.read(name)
        return noted if noted and noted.alive else None

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path, port: int = 0
    ) -> Started:
        """Start a process of its own session, and note it. Its output goes to the end of its log."""
        log = self._state / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            child = subprocess.Popen(
                list(command),
                cwd=folder,
                env={**environment, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        noted = Started(name, child.pid, psutil.Process(child.pid).create_time(), port, str(log))
        part = self._folder / f".{name}.json"
        part.write_text(json.dumps(asdict(noted)) + "\n", encoding="utf-8")
        part.replace(self._folder / f"{name}.json")
        return noted

    def end(self, name: str, forget: bool = True) -> str:
        """End a noted process and all under it: "ended", "killed" or, where none lived, ""."""
        noted = self.living(name)
        process = noted.process() if noted else None
        said = _end([process, *_under(process)]) if process else ""
        if forget:
            (self._folder / f"{name}.json").unlink(missing_ok=True)
        return said

    def end_marked(self) -> list[str]:
        """End whatever else carries this home's mark: flow runs whose worker died. Returns what they were."""
        left = [process for process in self.marked() if process.pid != os.getpid()]
        names = [f"{process.pid} {_name(process)}" for process in left]
        _end(left)
        return names

    def marked(self) -> list[psutil.Process]:
        """Every process of this user that was started from this home."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    @property
    def mark(self) -> str:
        return str(self._state.resolve())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One command at a time changes what runs; a second one waits."""
        self._state.mkdir(parents=True, exist_ok=True)
        with (self._state / "processes.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def tail(log: str) -> str:
    """The end of a log, for an error message."""
    try:
        return Path(log).read_text(encoding="utf-8", errors="replace")[-LOG_CHARACTERS:].strip()
    except OSError:
        return ""


def _under(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return list(process.children(recursive=True))
    return []


def _end(processes: Sequence[psutil.Process]) -> str:
    """Ask the first to end, since it may end the others itself; then the rest; then kill what is left."""
    if not processes:
        return ""
    deadline = time.monotonic() + SECONDS_TO_END
    for process in processes:
        with suppress(psutil.Error):
            process.terminate()
        psutil.wait_procs([process], timeout=max(0.1, deadline - time.monotonic()))
    _, stubborn = psutil.wait_procs(list(processes), timeout=1.0)
    for process in stubborn:
        with suppress(psutil.Error):
            process.kill()  # psutil looks at the start time again
    psutil.wait_procs(stubborn, timeout=5.0)
    return "killed" if stubborn else "ended"


def _name(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline()[:4])[:80]
    return "?"

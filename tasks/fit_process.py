"""The training process as its parent sees it: started, listened to, and never left behind.

Training runs in a child, so that a native crash or the system's memory killer fails one task with a reason and leaves
the flow alive. The child ends when the parent does, however that happens: it ends when the pipe at its stdin closes.
"""

import contextlib
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from flywheel.model.folder import TrainingError
from flywheel.settings import PROJECT

logger = logging.getLogger(__name__)

OnEvent = Callable[[dict[str, Any]], None]
LOG = "fit.log"
LOG_CHARACTERS = 3000
SECONDS_TO_END = 5.0
SECONDS_BETWEEN_TRIES = 0.5
KEPT_BYTES = "10000000000"  # more than any one tensor


@contextlib.contextmanager
def only_one(lock: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[int]:
    """Hold a lock file; who comes second waits. Yields its descriptor.

    The child inherits the descriptor, so the lock is held until the last of the two has ended: a child that outlives a
    killed parent for a moment still keeps others out.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        said = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not said:
                    logger.info("%s: another run trains this model; waiting for it", lock)
                    on_wait()
                said = True
                time.sleep(SECONDS_BETWEEN_TRIES)
        yield descriptor
    finally:
        os.close(descriptor)


def run_fit(request: Path, threads: int, subject: str, lock: int, on_event: OnEvent) -> None:
    """Run `python -m tasks.fit <request>` to its end and pass its events on; its log goes to `fit.log` beside it.

    Raises TrainingError with the child's reason, or with what its exit says. Whatever ends this call ends the child.
    """
    log = request.parent / LOG
    ended: dict[str, Any] = {}
    with log.open("ab") as stderr:
        child = _start(request, threads, lock, stderr)
        try:
            assert child.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
            for event in _events(child.stdout):
                if event["event"] in {"done", "failed"}:
                    ended = event
                if event["event"] != "failed":
                    on_event(event)
            code = child.wait()
        finally:
            _end(child)
    if code != 0 or ended.get("event") != "done":
        raise _failure(subject, code, ended, log)


def environment_for(threads: int) -> dict[str, str]:
    """The environment of a training process: this one's, and what makes training fast and the same each time."""
    return {
        # glibc would hand freed memory back and ask for it again at every step: up to a fifth of the time is saved
        "MALLOC_TRIM_THRESHOLD_": KEPT_BYTES,
        "MALLOC_MMAP_THRESHOLD_": KEPT_BYTES,
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while others work cost 7 to 16 times on a busy machine
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it cuBLAS is not deterministic
    }


def _start(request: Path, threads: int, lock: int, stderr: IO[bytes]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tasks.fit", str(request), "--end-with-stdin"],
        cwd=PROJECT,
        env=environment_for(threads),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        encoding="utf-8",
        start_new_session=True,
        pass_fds=(lock,),
    )


def _events(lines: IO[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            logger.debug("not an event: %s", line.rstrip())
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            yield event


def _end(child: subprocess.Popen[str]) -> None:
    """End the child and what it started, if any still runs."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is not None:
            break
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(SECONDS_TO_END)
    for pipe in (child.stdin, child.stdout):
        if pipe:
            pipe.close()


def _failure(subject: str, code: int, ended: dict[str, Any], log: Path) -> TrainingError:
    """What the child said, or what its exit code means."""
    if ended.get("event") == "failed":
        return TrainingError(subject, str(ended["reason"]), str(ended["hint"]))
    tail = log.read_text(encoding="utf-8", errors="replace")[-LOG_CHARACTERS:].strip()
    logger.error("%s: the end of %s:\n%s", subject, log, tail)
    if code >= 0:
        return TrainingError(
            subject, f"the training process ended with exit code {code} and no reason.", f"Read {log}."
        )
    name = signal.Signals(-code).name
    if -code == signal.SIGKILL:
        hint = "Most often memory ran out: try a smaller batch or model. Running again resumes at the last checkpoint."
    elif -code in {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGABRT, signal.SIGFPE}:
        hint = f"Native code crashed: try another model or device, and read {log}."
    else:
        hint = "Something outside ended it. Running again resumes at the last checkpoint."
    return TrainingError(subject, f"the training process was ended by signal {-code} ({name}).", hint)

"""Serves a Bento for as long as a `with` block lasts: by `bentoml serve`, on loopback, in an empty folder."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import psutil

STOP_SECONDS = 15.0  # an idle service stops in 2
POLL_SECONDS = 0.2
LOG_LINES = 40
WORKER_FAILED = "Application startup failed"  # uvicorn's words; BentoML would start the worker again, for ever


class ServingError(RuntimeError):
    """The service did not start, or ended by itself. The message ends with the last lines of its log."""


@contextlib.contextmanager
def served(tag: str, bentoml_home: Path, timeout: float, environment: Mapping[str, str]) -> Iterator[str]:
    """The address of the running service; it is ended on every way out. Raises ServingError when it isn't ready.

    It runs on a home of its own whose stores are links to the given one's: a service that the user runs from the same
    stores would lose its metrics, which BentoML wipes at each start.
    """
    with tempfile.TemporaryDirectory(prefix="flywheel-serving-", ignore_cleanup_errors=True) as scratch:
        home, empty, log = Path(scratch, "home"), Path(scratch, "empty"), Path(scratch, "log")
        empty.mkdir()
        home.mkdir()
        for store in ("bentos", "models"):
            (home / store).symlink_to(bentoml_home / store, target_is_directory=True)
        port = _free_port()
        serve = [sys.executable, "-m", "bentoml", "serve", tag, "--host", "127.0.0.1", "--port", str(port)]
        command = [sys.executable, "-P", str(Path(__file__).with_name("with_parent.py")), *serve]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=empty,
                env=_environment(home, environment),
                stdin=subprocess.PIPE,  # never written to: its end tells the service that we are gone
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C goes to us, and we end it
            )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_until_ready(process, address, tag, timeout, log)
            yield address
        except httpx.HTTPError as error:
            raise ServingError(f"{tag}: no answer from the served Bento ({error!r}).\n{_tail(log)}") from error
        finally:
            _stop(process)


def _environment(home: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """Without PYTHONPATH: the Bento's own files are what runs. Without the operator's own settings: it answers with its
    own model, and what it is asked here is no traffic, so it is not logged."""
    foreign = ("PYTHONPATH", "FLYWHEEL_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    own = {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", "FLYWHEEL_SERVICE_LOG": "false"}
    return {**inherited, **own, **extra}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(process: "subprocess.Popen[bytes]", address: str, tag: str, timeout: float, log: Path) -> None:
    deadline = time.monotonic() + timeout
    with httpx.Client(trust_env=False, timeout=2.0) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ServingError(f"{tag}: bentoml serve ended with exit code {process.returncode}.\n{_tail(log)}")
            if WORKER_FAILED in (tail := _tail(log)):
                raise ServingError(f"{tag}: its worker can't start.\n{tail}")
            with contextlib.suppress(httpx.HTTPError):
                if client.get(f"{address}/readyz").status_code == httpx.codes.OK:
                    return
            time.sleep(POLL_SECONDS)
    raise ServingError(f"{tag}: ready within {timeout:.0f} s expected, not ready yet.\n{_tail(log)}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM to the supervisor, which drains its workers; SIGKILL to whatever of its family is left after that."""
    family = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    if process.poll() is None:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=1.0)
    for left in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    psutil.wait_procs(alive, timeout=5.0)


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-LOG_LINES:]) or "(its log is empty)"

"""The Prefect server of one run, where no other runs: the same that Prefect embeds, started before Prefect is imported.

Prefect itself would start it at its first request, when all is imported, and import the whole server into this process
to do so. Started here it comes up meanwhile. It is ended when this process has delivered its last event, and by the
system where this process was killed.
"""

import atexit
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tasks
from tasks.addresses import answers

HOST = "127.0.0.1"
START_SECONDS = 180.0  # a fresh database took 67 s on two busy cores
STOP_SECONDS = 10.0  # it takes 0.3
POLL_SECONDS = 0.1
LOG_BYTES = 4000
APPLICATION = ["-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
EMBEDDED = {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1", "PREFECT_UI_ENABLED": "0"}
WITH_PARENT = Path(tasks.__file__).with_name("with_parent.py")


class ServerError(RuntimeError):
    """The Prefect server of a run is not there; the message says why."""


class RunServer:
    """Started at once; `wait_until_ready` before the first flow."""

    def __init__(self) -> None:
        port = _free_port()
        self.api_url = f"http://{HOST}:{port}/api"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the server
        command = [sys.executable, *APPLICATION, "--host", HOST, "--port", str(port), "--log-level", "error"]
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WITH_PARENT), *command, "--lifespan", "on"],
            env={**os.environ, **EMBEDDED},
            stdin=subprocess.PIPE,  # never written to: its end tells the server that we are gone
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C goes to us, who still have to tell the server of the end
        )
        # before Prefect registers its own: so it runs after they have delivered what they hold
        atexit.register(self.stop)

    def wait_until_ready(self) -> None:
        """Raises ServerError, with the end of its log, where it ends instead or is not up in time."""
        deadline = time.monotonic() + START_SECONDS
        while not answers(f"{self.api_url}/health"):
            if self._process.poll() is not None:
                raise ServerError(f"Prefect's server ended while it started. Its last words:\n{self._last_words()}")
            if time.monotonic() > deadline:
                self.stop()
                raise ServerError(f"Prefect's server did not start within {START_SECONDS:.0f} s:\n{self._last_words()}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        if self._process.poll() is None:
            os.killpg(self._process.pid, 9)
            self._process.wait()

    def _last_words(self) -> str:
        self._log.seek(0)
        return self._log.read()[-LOG_BYTES:].decode(errors="replace").strip() or "(none)"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])

"""What `make up` keeps running, and how each part is started: the one description for up, keep, status and down."""

import os
import socket
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from deployments.processes import Book, ProcessError, Started, tail
from flywheel.settings import PROJECT, Settings, keep_tools_at_home
from tasks.addresses import answers

HOST = "127.0.0.1"
POOL = "flywheel"
SERVER, REPORTS, WORKER, KEEPER = "server", "reports", "worker", "keeper"
PORTS = {SERVER: "prefect_port", REPORTS: "reports_port"}  # part → setting
SERVER_SECONDS = 180.0  # a fresh database took 67 s on two busy cores
REPORTS_SECONDS = 30.0
HEARTBEAT_SECONDS = 30  # Prefect's smallest


@dataclass(frozen=True)
class Stack:
    """The processes of one home, by its settings."""

    settings: Settings

    @property
    def book(self) -> Book:
        return Book(self.settings.paths.state)

    @property
    def ui(self) -> str:
        return f"http://{HOST}:{self.settings.prefect_port}"

    @property
    def api(self) -> str:
        return f"{self.ui}/api"

    @property
    def reports(self) -> str:
        return f"http://{HOST}:{self.settings.reports_port}"

    def as_it_runs(self, asked: Collection[str] = ()) -> "Stack":
        """At the ports that are noted, which another shell's settings may have chosen, but for settings `asked`."""
        noted = {field: self.book.read(name) for name, field in PORTS.items() if field not in asked}
        return Stack(self.settings.model_copy(update={field: found.port for field, found in noted.items() if found}))

    def port(self, name: str) -> int:
        return int(getattr(self.settings, PORTS[name])) if name in PORTS else 0

    def command(self, name: str) -> list[str]:
        python = sys.executable
        return {
            SERVER: [python, "-m", "deployments.server", "start", "--host", HOST, "--port", str(self.port(SERVER))],
            REPORTS: [python, "-m", "deployments.reports", str(self.port(REPORTS))],
            WORKER: [python, "-m", "prefect", "worker", "start", "--pool", POOL, "--name", "flywheel-worker"],
            KEEPER: [python, "-m", "deployments.keep"],
        }[name]

    def environment(self) -> dict[str, str]:
        """What every part gets; a part that runs already keeps what it got."""
        keep_tools_at_home(self.settings)
        return {
            **os.environ,
            "FLYWHEEL_HOME": str(self.settings.paths.home),
            **{f"FLYWHEEL_{field.upper()}": str(self.port(name)) for name, field in PORTS.items()},
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_API_HOST": HOST,
            "PREFECT_SERVER_API_PORT": str(self.settings.prefect_port),
            # in memory, the default, a restart of the server strands the GPU's slot
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            # SQLite's writers queue: on a busy disk 10 s, the default, ended in "database is locked"
            "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
            # else `prefect deployment run --watch` shows states alone, and of a state only its name
            "PREFECT_SERVER_LOGS_STREAM_OUT_ENABLED": "true",
            "PREFECT_SERVER_LOGS_STREAM_PUBLISHING_ENABLED": "true",
            "PREFECT_WORKER_QUERY_SECONDS": "3",
            "PYTHONPATH": str(PROJECT),  # this clone's code, wherever a flow run's process starts
            "PYTHONUNBUFFERED": "1",
        }

    def start(self, name: str) -> Started:
        """Start a part and wait until it answers. Raises ProcessError, and ends it, where it doesn't."""
        demand_port(name, self.port(name))
        started = self.book.start(name, self.command(name), self.environment(), PROJECT, self.port(name))
        wait = {
            SERVER: lambda: wait_until_healthy(started, f"{self.api}/health", SERVER_SECONDS),
            REPORTS: lambda: wait_until_healthy(started, f"{self.reports}/", REPORTS_SECONDS),
        }.get(name)
        try:
            if wait:
                wait()
        except BaseException:
            self.book.end(name, forget=False)  # so that the keeper tries again
            raise
        return started


def demand_port(name: str, port: int) -> None:
    """Raises ProcessError where another program listens at a part's port."""
    if not port or is_free(port):
        return
    setting = f"FLYWHEEL_{PORTS[name].upper()}"
    raise ProcessError(
        f"{name}: port {port} of {HOST} is taken by another program. Choose another port, in the shell or in .env, "
        f"and run 'make up' again: {setting}={free_port()}"
    )


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(started: Started, url: str, seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not started.alive:
            raise ProcessError(f"{started.name}: it ended while it started. The end of {started.log}:\n{_end(started)}")
        if answers(url):
            return
        sleep(0.3)
    raise ProcessError(
        f"{started.name}: no answer at {url} within {seconds:.0f} s. See {started.log}:\n{_end(started)}"
    )


def _end(started: Started) -> str:
    return tail(started.log) or "(empty)"

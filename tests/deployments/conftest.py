"""A clone of the project with ports of its own, and its `make up` and `make down`."""

import json
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import clean_environment, copy_of_the_project

SECONDS = 300


@dataclass(frozen=True)
class Clone:
    folder: Path
    ports: dict[str, str]

    def __call__(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command as a user gives it in the clone's folder; prefect commands need no setting."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**clean_environment(), **self.ports, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def module(self, name: str) -> subprocess.CompletedProcess[str]:
        return self(".venv/bin/python", "-m", f"deployments.{name}")

    def run(self, parameters: dict[str, Any], *more: str) -> subprocess.CompletedProcess[str]:
        given = [part for name, value in parameters.items() for part in ("-p", f"{name}={json.dumps(value)}")]
        return self(".venv/bin/prefect", "deployment", "run", "train-classifier/quickstart", *given, *more)

    def ask(self, code: str) -> Any:
        """What code prints as JSON, run in the clone with `client` at its server."""
        head = "import json\nfrom prefect.client.orchestration import get_client\n"
        done = self(".venv/bin/python", "-c", f"{head}with get_client(sync_client=True) as client:\n    {code}")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def pid(self, name: str) -> int:
        return int(json.loads((self.folder / ".flywheel" / "processes" / f"{name}.json").read_text())["pid"])

    def left(self) -> list[str]:
        """Every living process that was started from this clone."""
        found = []
        for process in psutil.process_iter():
            try:
                home = process.environ().get("FLYWHEEL_STARTED_BY", "")
                if home.startswith(str(self.folder)) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return found


def two_free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1]), int(two.getsockname()[1])


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """Not started yet; ended in any case."""
    folder = copy_of_the_project(tmp_path_factory.mktemp("clone") / "fly wheel")
    prefect, reports = two_free_ports()
    found = Clone(folder, {"FLYWHEEL_PREFECT_PORT": str(prefect), "FLYWHEEL_REPORTS_PORT": str(reports)})
    yield found
    found.module("down")


@pytest.fixture(scope="module")
def running(clone: Clone) -> Clone:
    up = clone.module("up")
    assert up.returncode == 0, up.stdout + up.stderr
    assert clone.ports["FLYWHEEL_PREFECT_PORT"] in up.stdout
    # paused, as a person may: its runs would come among those that the tests start
    clone.ask(
        "[client.pause_deployment(each.id) for each in client.read_deployments() if each.schedules]; "
        "[client.delete_flow_run(run.id) for run in client.read_flow_runs()]; print(0)"
    )
    return clone

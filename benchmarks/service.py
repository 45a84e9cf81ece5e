"""A served champion for the benchmarks: a home of its own with two models, and `make serve` on a free port."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import psutil

from flywheel.data.versions import load_version, open_arrays, original_bytes
from flywheel.ledger import Ledger, open_ledger
from flywheel.lineage.release import force_champion
from flywheel.records import Side
from flywheel.settings import PROJECT, Settings

READY_SECONDS = 180.0
STOP_SECONDS = 60.0


class Home:
    """A project's home with a champion and challengers of one task, trained and packaged by the real flows."""

    def __init__(self, folder: Path, source: str, parameters: Sequence[str], seeds: Sequence[str] = ("0", "1")) -> None:
        self.settings = Settings(home=folder, database_url="")
        self.environment = {**os.environ, "FLYWHEEL_HOME": str(folder), "FLYWHEEL_DATABASE_URL": ""}
        given = ("--SOURCE", source, "--SMALLEST_POWER", "0", *parameters)
        for seed in seeds:
            self._run("flows.run", *given, "--SEED", seed)
        history = self.ledger.decisions()
        self.models = sorted({each.inputs["model_id"] for each in history})
        if len(self.models) != len(seeds):
            raise SystemExit(f"{folder}: {len(seeds)} models expected, found {self.models}.")

    @property
    def ledger(self) -> Ledger:
        return open_ledger(self.settings)

    def promote(self, model_id: str) -> None:
        force_champion(model_id, self.ledger, self.settings.paths, reason="a benchmark", who="benchmark")

    def files(self, count: int) -> list[bytes]:
        """Original bytes of frozen images."""
        version = load_version(next(self.settings.paths.datasets.glob("ds-*")))
        arrays = open_arrays(version)
        rows = arrays.side(Side.FROZEN)[:count]
        return [original_bytes(self.settings.paths, str(arrays.ids[row])) for row in rows]

    def _run(self, module: str, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=PROJECT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in {0, 2}:  # 2: trained, and not let through
            raise SystemExit(f"{module} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


@contextlib.contextmanager
def serving(home: Home, extra: Mapping[str, str] | None = None) -> Iterator[tuple[str, psutil.Process]]:
    """The address of the champion's service, and its first process; ended by SIGTERM."""
    command = [sys.executable, "-m", "tasks.serve", "--port"]
    with started(command, {**home.environment, **(extra or {})}, home.settings.paths.state) as (url, process):
        wait_until_ready(url, process)
        yield url, psutil.Process(process.pid)


@contextlib.contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str], logs: Path
) -> "Iterator[tuple[str, subprocess.Popen[bytes]]]":
    """The address of a server whose command ends with its port; ended by SIGTERM, with all its children."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (logs / f"serve-{port}.log").open("wb") as log:
        process = subprocess.Popen([*command, str(port)], cwd=PROJECT, env=environment, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)
        _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS)
        for left in alive:
            left.kill()


def workers(service: psutil.Process) -> list[psutil.Process]:
    """The processes that answer; one that was killed is none, though its parent may not have looked yet."""
    found = []
    for each in service.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie is one of these
            if "worker.service" in " ".join(each.cmdline()):
                found.append(each)
    return found


def wait_until_ready(url: str, process: "subprocess.Popen[bytes] | None" = None) -> None:
    """Until every worker stands."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise SystemExit(f"the service ended by itself with {process.returncode}")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                return
        time.sleep(0.2)
    raise SystemExit(f"{url}: not ready after {READY_SECONDS:.0f} s")

"""What W&B and its troubles cost a training: the same short one with W&B off, and in each trouble, side by side.

W&B's own programs run; the server is a stand-in on this machine, and the full disk a real, tiny one (root only).
Each repetition trains once in every case, in a drawn order, and is compared with its own training without W&B. Wall
time is told in two parts: until the last epoch, where W&B is in nobody's way, and from there to the end, where it is
waited for. The CPU time of all processes, W&B's own included, is what a busy machine blurs least.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.results import Claim, write_result
from benchmarks.versions import version_of
from flywheel.paths import Paths
from flywheel.records import DatasetVersion
from flywheel.settings import DataParameters, Recipe, Settings
from tasks.training import train
from tests.tasks.wandb_server import KEY, WandbServer

MOST_SECONDS = 5.0  # more, at the median, from the last epoch to the exit
MOST_RATIO = 1.1  # of the time until then, at the median
OFF = "off"
NOTHING = "no event of W&B"
POLL_SECONDS = 0.1
Case = Callable[[Path], contextlib.AbstractContextManager[dict[str, str]]]


@dataclass(frozen=True)
class Cost:
    """Seconds of one training."""

    wall: float
    end: float  # of these, from the last epoch to the exit
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the disk is taken away in any case
    draw = random.Random(0)  # noqa: S311 - an order, no secret
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        del os.environ[name]
    costs: dict[str, list[Cost]] = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory(prefix="flywheel-tracking-") as scratch:
        version = version_of(DataParameters(source="digits"), Settings(home=Path(scratch)))
        for repetition in range(given.repetitions):
            for case in draw.sample(list(CASES), len(CASES)):
                cost, said = measured(case, version, Path(scratch) / f"{repetition}-{case}", given.epochs)
                costs[case].append(cost)
                print(
                    f"{repetition} {case:10} wall {cost.wall:6.1f} end {cost.end:5.1f} CPU {cost.cpu:5.1f} s  {said}",
                    flush=True,
                )
    report(costs)


def report(costs: dict[str, list[Cost]]) -> None:
    off = costs[OFF]
    figures: dict[str, Any] = {
        "repetitions": len(off),
        OFF: {
            "wall_seconds": median([each.wall for each in off]),
            "seconds_at_the_end": median([each.end for each in off]),
            "cpu_seconds": median([each.cpu for each in off]),
        },
    }
    for case in costs:
        if case != OFF:
            pairs = list(zip(costs[case], off, strict=True))
            figures[case] = {
                "training_ratio": median([(one.wall - one.end) / (other.wall - other.end) for one, other in pairs]),
                "more_seconds_at_the_end": median([one.end - other.end for one, other in pairs]),
                "cpu_ratio": median([one.cpu / other.cpu for one, other in pairs]),
            }
    slowest = max(figures[case]["training_ratio"] for case in costs if case != OFF)
    worst = max(figures[case]["more_seconds_at_the_end"] for case in costs if case != OFF)
    write_result(
        Claim(
            name="tracking",
            claim=f"No trouble of W&B makes training last more than {MOST_RATIO} times as long until its last epoch, "
            f"nor holds its end up for more than {MOST_SECONDS:.0f} seconds.",
            command="make bench NAME=tracking",
            figures=figures,
            holds=worst <= MOST_SECONDS and slowest <= MOST_RATIO,
        )
    )


def median(values: list[float]) -> float:
    return round(statistics.median(values), 2)


def measured(case: str, version: DatasetVersion, home: Path, epochs: int) -> tuple[Cost, str]:
    """What one training in a home of its own took, and what was said of W&B."""
    said: list[str] = []
    epochs_at: list[float] = []

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "tracking":
            said.append(event["said"])
        if event["event"] == "epoch":
            epochs_at.append(time.perf_counter())

    home.mkdir()
    with CASES[case](home) as environment, cpu_of_children() as cpu:
        os.environ.update(environment)
        try:
            began = time.perf_counter()
            train(version, Recipe(epochs=epochs), "cpu", Paths(home), listen)
            ended = time.perf_counter()
        finally:
            for name in environment:
                del os.environ[name]
    shutil.rmtree(home)
    return Cost(ended - began, ended - epochs_at[-1], sum(cpu.values())), " ".join(said) or NOTHING


@contextlib.contextmanager
def cpu_of_children() -> Iterator[dict[int, float]]:
    """CPU seconds by process, of all that run below this one meanwhile; up to 0.1 s short for each that ends."""
    found: dict[int, float] = {}
    enough = threading.Event()

    def look() -> None:
        while not enough.wait(POLL_SECONDS):
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    times = child.cpu_times()
                    found[child.pid] = times.user + times.system

    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield found
    finally:
        enough.set()
        watch.join()


@contextlib.contextmanager
def off(_: Path) -> Iterator[dict[str, str]]:
    yield {"WANDB_MODE": "disabled"}


@contextlib.contextmanager
def no_key(_: Path) -> Iterator[dict[str, str]]:
    yield {}


@contextlib.contextmanager
def silent(_: Path) -> Iterator[dict[str, str]]:
    """A host that takes connections and never says a word."""
    with socket.socket() as host:
        host.bind(("127.0.0.1", 0))
        host.listen(64)
        yield {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": f"http://127.0.0.1:{host.getsockname()[1]}"}


@contextlib.contextmanager
def unknown(_: Path) -> Iterator[dict[str, str]]:
    """A name that nobody knows, as without a network."""
    yield {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "https://wandb.invalid"}


@contextlib.contextmanager
def sent(_: Path) -> Iterator[dict[str, str]]:
    with WandbServer() as server:
        yield {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url}


@contextlib.contextmanager
def gone(_: Path) -> Iterator[dict[str, str]]:
    """A server that goes when the first rows of the run reach it."""
    with WandbServer() as server:
        server.goes_with_the_first_rows = True
        yield {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url}


@contextlib.contextmanager
def full(home: Path) -> Iterator[dict[str, str]]:
    """A disk of 64 kB where W&B writes."""
    disk = home / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "flywheel-full", str(disk)], check=True)
    try:
        yield {"WANDB_DIR": str(disk)}
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


CASES: dict[str, Case] = {OFF: off, "no key": no_key, "silent": silent, "unknown": unknown, "sent": sent, "gone": gone}
if hasattr(os, "geteuid") and os.geteuid() == 0:
    CASES["full disk"] = full


if __name__ == "__main__":
    main()

"""The servers of one model that the serving benchmarks ask, each with two workers, and how an answer is checked."""

import contextlib
import json
import os
import secrets
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.load import Answers, Target, run_load
from benchmarks.peers import python_of, with_own_packages
from benchmarks.service import READY_SECONDS, Home, serving, started
from benchmarks.serving_arms.net import FOLDER, Net
from flywheel.settings import PROJECT

ROUNDING = 2e-3  # of a confidence: a peer's framework may bring its own decoder
SECRET = secrets.token_urlsafe()
EVERYTHING = {
    "FLYWHEEL_SERVICE_WORKERS": "2",
    "FLYWHEEL_SERVICE_KEYS": f"bench:predict+admin:{SECRET}",
    "FLYWHEEL_SERVICE_RATE": "1000000",
}
KEY = {"X-API-Key": SECRET}
OURS, FORM, UNLOGGED, PLAIN, CONSTANT = "ours", "ours, form", "ours without log", "plain FastAPI", "a constant"
NATIVE, LITSERVE = "BentoML's own", "LitServe"
SECOND_WORKER_SECONDS = 5.0


class WrongAnswerError(SystemExit):
    """A server that answers something else is no peer, and ends the benchmark."""


@dataclass(frozen=True)
class Images:
    """Files, and what the model answers about each when it is asked in this process."""

    files: tuple[bytes, ...]
    expected: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, files: Sequence[bytes], model: Path) -> "Images":
        os.environ[FOLDER] = str(model)
        return cls(tuple(files), tuple(Net().of_files(files)))

    def check(self, who: str, number: int, answer: Any) -> None:
        """Raises WrongAnswerError."""
        found, expected = answer[0] if isinstance(answer, list) else answer, self.expected[number]
        if found.get("label") != expected["label"] or abs(found["confidence"] - expected["confidence"]) > ROUNDING:
            raise WrongAnswerError(f"{who}, image {number}: {expected} expected, {str(found)[:300]} found")


@dataclass
class Loads:
    """What was measured of a server, load by load."""

    rate: list[float] = field(default_factory=list)  # answers a second
    p50: list[float] = field(default_factory=list)  # ms
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # us a request, of all its processes
    failed: int = 0

    def add(self, answers: Answers, cpu_seconds: float) -> None:
        self.rate.append(answers.rate)
        self.p50.append(1e3 * answers.quantile(0.5))
        self.p99.append(1e3 * answers.quantile(0.99))
        self.cpu.append(1e6 * cpu_seconds / len(answers.seconds))
        self.failed += answers.failed

    @property
    def row(self) -> dict[str, float]:
        """Medians."""
        return {
            "a second": round(statistics.median(self.rate)),
            "p50 ms": round(statistics.median(self.p50), 1),
            "p99 ms": round(statistics.median(self.p99), 1),
            "CPU µs a request": round(statistics.median(self.cpu)),
            "failed": self.failed,
        }


@dataclass(frozen=True)
class Server:
    """A server that stands, and how it is asked."""

    name: str
    url: str
    process: psutil.Process
    multipart: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    answers_constantly: bool = False

    def asked(self, images: Images, connections: int, seconds: float, found: Loads | None = None) -> None:
        """One load; every answer is compared with the model's. Raises WrongAnswerError."""
        target = Target.of_files(self.url, images.files, multipart=self.multipart, headers=self.headers)
        before = self.cpu_seconds
        answers = run_load(target, connections, seconds, keep_bodies=not self.answers_constantly)
        used = self.cpu_seconds - before
        if not answers.seconds:
            raise WrongAnswerError(f"{self.name}: no request of a whole load was answered: {answers.failures}")
        for number, body in answers.bodies:
            images.check(self.name, number, json.loads(body))
        if found is not None:
            found.add(answers, used)

    @property
    def cpu_seconds(self) -> float:
        total = 0.0
        for each in [self.process, *self.process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += sum(each.cpu_times()[:2])
        return total


def ours(home: Home, stack: contextlib.ExitStack, log: bool = True) -> Server:
    """As `make serve` starts it, with keys and a rate limit."""
    extra = EVERYTHING | {"FLYWHEEL_SERVICE_LOG": "true" if log else "false"}
    url, process = stack.enter_context(serving(home, extra))
    return Server(OURS if log else UNLOGGED, url, process, headers=KEY)


def others(home: Home, model: Path, names: Sequence[str], stack: contextlib.ExitStack) -> Iterator[Server]:
    """The peers of these names, which are started together."""
    environment = {**os.environ, FOLDER: str(model), "PYTHONPATH": str(PROJECT), "BENTOML_DO_NOT_TRACK": "True"}
    standing = {
        name: stack.enter_context(started(_command(name), environment, home.settings.paths.state)) for name in names
    }
    for name, (url, child) in standing.items():
        wait_for_any_answer(url, name, child.poll)
    for name, (url, child) in standing.items():
        yield Server(name, url, psutil.Process(child.pid), name in {NATIVE, LITSERVE}, {}, name == CONSTANT)


def _command(name: str) -> list[str]:
    """It ends where the port is expected."""
    arms = "benchmarks.serving_arms"
    if name == LITSERVE:
        return [str(with_own_packages(python_of("litserve"))), "-m", f"{arms}.lit"]
    if name == NATIVE:
        return [sys.executable, "-m", "bentoml", "serve", f"{arms}.native:Native", "--host", "127.0.0.1", "--port"]
    return [sys.executable, "-m", f"{arms}.{'plain' if name == PLAIN else 'constant'}"]


def wait_for_any_answer(url: str, name: str, ended: Any) -> None:
    """Until a request gets one, and a while longer; the warm-up reaches all workers."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if ended() is not None:
            raise SystemExit(f"{name} ended by itself with {ended()}")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/", trust_env=False).status_code:
                time.sleep(SECOND_WORKER_SECONDS)
                return
        time.sleep(0.3)
    raise SystemExit(f"{name}: no answer from {url} within {READY_SECONDS:.0f} s")

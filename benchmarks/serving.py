"""The service with everything on against its peers and against the limit of the cores.

One small model, served by two workers each: ours as `make serve` starts it (log, metrics, keys, rate limit), ours
without its log, plain FastAPI under uvicorn with the same batcher, BentoML's own batchable API, LitServe, and a
constant answer under uvicorn. All stand at once, one is asked at a time, and ratios are taken within a turn. Then a
heavy model and the batch endpoint against what the same cores decode and classify without a server.
"""

import argparse
import contextlib
import json
import os
import re
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.load import Answers, Target, run_load
from benchmarks.peers import python_of, with_own_packages
from benchmarks.results import Claim, Figures, write_result
from benchmarks.service import READY_SECONDS, Home, serving, started
from benchmarks.serving_arms.net import BATCH, FOLDER, Net
from benchmarks.serving_limit import Limit
from benchmarks.turns import ratio
from flywheel.settings import PROJECT

CONNECTIONS = (1, 16, 64)
BATCH_CONNECTIONS = 4
SECRET = secrets.token_urlsafe()
EVERYTHING = {"FLYWHEEL_SERVICE_KEYS": f"bench:predict+admin:{SECRET}", "FLYWHEEL_SERVICE_RATE": "1000000"}
KEY = {"X-API-Key": SECRET}
ROUNDING = 2e-3  # of a confidence: another decoder of the peer's own framework
OF_PLAIN, OF_PEERS, OF_HEAVY_LIMIT, OF_BATCH_LIMIT = 0.8, 2.0, 0.9, 0.8


@dataclass(frozen=True)
class Arm:
    """A server that stands, and how it is asked."""

    name: str
    url: str
    process: psutil.Process
    multipart: bool
    headers: Mapping[str, str]

    def asked(self, files: Sequence[bytes], connections: int, seconds: float) -> Answers:
        target = Target.of_files(self.url, files, multipart=self.multipart, headers=self.headers)
        return run_load(target, connections, seconds)

    @property
    def cpu_seconds(self) -> float:
        total = 0.0
        for each in [self.process, *self.process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += sum(each.cpu_times()[:2])
        return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", "--SOURCE", default="digits")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flywheel-serving-", ignore_cleanup_errors=True) as scratch:
        small = Home(Path(scratch, "small"), given.source, ("--EPOCHS", "2", "--SUBSET", "1500"), ["0"])
        figures: Figures = {"rounds": given.rounds, "seconds_each": given.seconds, "source": Path(given.source).name}
        figures |= _against_peers(small, given.rounds, given.seconds)
        heavy_recipe = ("--MODEL", "resnet18", "--STEM", "small", "--EPOCHS", "1", "--SUBSET", "300")
        heavy = Home(Path(scratch, "heavy"), given.source, heavy_recipe, ["0"])
        figures |= _against_the_limit(heavy, "resnet18", (16, 64), given.rounds, given.seconds)
    write_result(_claim(figures))


def _against_peers(home: Home, rounds: int, seconds: float) -> Figures:
    files, folder = home.files(200), home.settings.paths.model(home.models[0])
    home.promote(home.models[0])
    with contextlib.ExitStack() as stack:
        limit = stack.enter_context(Limit(folder, files))
        arms = {arm.name: arm for arm in _arms(home, folder, stack)}
        for arm in arms.values():
            if arm.name != "constant":
                _demand_right_answers(arm, folder, files[:50])
            arm.asked(files, max(CONNECTIONS), seconds)  # warm
        figures: Figures = {}
        for connections in CONNECTIONS:
            figures |= _compared(arms, limit, files, connections, rounds, seconds)
        figures |= _batches(arms["ours"], limit, files, rounds, seconds)
        return figures


def _arms(home: Home, folder: Path, stack: contextlib.ExitStack) -> Iterator[Arm]:
    state = home.settings.paths.state
    for name, extra in {"ours": {}, "ours without log": {"FLYWHEEL_SERVICE_LOG": "false"}}.items():
        url, process = stack.enter_context(serving(home, EVERYTHING | extra))
        yield Arm(name, url, process, multipart=False, headers=KEY)
        if name == "ours":
            yield Arm("ours, form", url, process, multipart=True, headers=KEY)
    environment = {**os.environ, FOLDER: str(folder), "PYTHONPATH": str(PROJECT), "BENTOML_DO_NOT_TRACK": "True"}
    bento = [sys.executable, "-m", "bentoml", "serve", "benchmarks.serving_arms.native:Native", "--host", "127.0.0.1"]
    lit = str(with_own_packages(python_of("litserve")))
    commands = {
        "plain": [sys.executable, "-m", "benchmarks.serving_arms.plain"],
        "constant": [sys.executable, "-m", "benchmarks.serving_arms.constant"],
        "BentoML's own": [*bento, "--port"],
        "LitServe": [lit, "-m", "benchmarks.serving_arms.lit"],
    }
    for name, command in commands.items():
        url, child = stack.enter_context(started(command, environment, state))
        _wait_until_it_answers(url, name)
        of_forms = name in {"BentoML's own", "LitServe"}  # raw bodies they don't take
        yield Arm(name, url, psutil.Process(child.pid), of_forms, {})


def _wait_until_it_answers(url: str, name: str) -> None:
    """Until a request gets any answer; the warm-up reaches all workers."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/", trust_env=False).status_code:
                time.sleep(5)  # the second worker
                return
        time.sleep(0.3)
    raise SystemExit(f"{name}: no answer from {url} within {READY_SECONDS:.0f} s")


def _demand_right_answers(arm: Arm, folder: Path, files: Sequence[bytes]) -> None:
    """A server that answers something else is no peer."""
    os.environ[FOLDER] = str(folder)
    wanted = Net().of_files(files)
    for file, expected in zip(files, wanted, strict=True):
        kind = {"files": {"image": ("a.jpg", file, "image/jpeg")}} if arm.multipart else {"content": file}
        headers = {**arm.headers, **({} if arm.multipart else {"content-type": "image/jpeg"})}
        answer: Any = httpx.post(f"{arm.url}/classify", headers=headers, trust_env=False, timeout=30, **kind).json()
        found = answer[0] if isinstance(answer, list) else answer
        if found.get("label") != expected["label"] or abs(found["confidence"] - expected["confidence"]) > ROUNDING:
            raise SystemExit(f"{arm.name}: {expected} expected, {str(found)[:300]} found")


def _compared(
    arms: Mapping[str, Arm], limit: Limit, files: Sequence[bytes], connections: int, rounds: int, seconds: float
) -> Figures:
    rates: dict[str, list[float]] = {name: [] for name in (*arms, "limit")}
    tails: dict[str, list[float]] = {name: [] for name in arms}
    costs: dict[str, list[float]] = {name: [] for name in arms}
    failed = dict.fromkeys(arms, 0)
    batch = _mean_batch(arms["ours"], files, connections, seconds)
    for number in range(rounds):
        for name in list(arms) if number % 2 else reversed(list(arms)):
            before = arms[name].cpu_seconds
            answers = arms[name].asked(files, connections, seconds)
            rates[name].append(answers.rate)
            tails[name].append(answers.quantile(0.99))
            costs[name].append(1e6 * (arms[name].cpu_seconds - before) / len(answers.seconds))
            failed[name] += answers.failed
        rates["limit"].append(limit.images_a_second(max(1, round(batch)), seconds))
    at = f"at {connections}"
    figures: Figures = {f"images in a batch {at}": round(batch, 1)}
    others = {"plain": "ours", "constant": "ours", "limit": "ours", "ours without log": "ours"}
    others |= {"BentoML's own": "ours, form", "LitServe": "ours, form"}
    for other, one in others.items():
        figures[f"rate, {one} / {other} {at}"] = ratio(rates[one], rates[other])
        if other in tails:
            figures[f"p99, {one} / {other} {at}"] = ratio(tails[one], tails[other])
    for name, found in rates.items():
        figures[f"{name}, a second {at}"] = round(statistics.median(found))
    for name in arms:
        figures[f"{name}, p99 ms {at}"] = round(1e3 * statistics.median(tails[name]), 1)
        figures[f"{name}, CPU us a request {at}"] = round(statistics.median(costs[name]))
        figures[f"{name}, failed {at}"] = failed[name]
    print(json.dumps(figures, indent=1), flush=True)
    return figures


def _mean_batch(arm: Arm, files: Sequence[bytes], connections: int, seconds: float) -> float:
    """Images that went through the model at once, as the service counts them."""
    images, batches = _counted(arm)
    arm.asked(files, connections, seconds)
    after = _counted(arm)
    return (after[0] - images) / (after[1] - batches)


def _counted(arm: Arm) -> tuple[float, float]:
    time.sleep(2)  # workers tell once a second
    text = httpx.get(f"{arm.url}/metrics", headers=dict(arm.headers), trust_env=False).text
    found = {kind: re.search(rf"^flywheel_batch_images_{kind} (\S+)", text, re.MULTILINE) for kind in ("sum", "count")}
    return tuple(float(each[1]) if each else 0.0 for each in found.values())  # type: ignore[return-value]


def _batches(arm: Arm, limit: Limit, files: Sequence[bytes], rounds: int, seconds: float) -> Figures:
    """The batch endpoint, `BATCH` files a request."""
    several = [[files[(first + each) % len(files)] for each in range(BATCH)] for first in range(0, len(files), 16)]
    target = Target.of_batches(arm.url, several, path="/classify_batch", headers=arm.headers)
    ours, most = [], []
    for _ in range(rounds):
        answers = run_load(target, BATCH_CONNECTIONS, seconds)
        if answers.failed:
            raise SystemExit(f"/classify_batch failed: {answers.failures}")
        ours.append(BATCH * answers.rate)
        most.append(limit.images_a_second(BATCH, seconds))
    return {
        "rate, batch endpoint / limit": ratio(ours, most),
        "batch endpoint, images a second": round(statistics.median(ours)),
    }


def _against_the_limit(home: Home, name: str, all_connections: Sequence[int], rounds: int, seconds: float) -> Figures:
    files = home.files(60)
    home.promote(home.models[0])
    figures: Figures = {}
    with Limit(home.settings.paths.model(home.models[0]), files) as limit, serving(home, EVERYTHING) as (url, process):
        arm = Arm(name, url, process, multipart=False, headers=KEY)
        for connections in all_connections:
            batch = _mean_batch(arm, files, connections, seconds)
            ours, most = [], []
            for _ in range(rounds):
                ours.append(arm.asked(files, connections, 2 * seconds).rate)
                most.append(limit.images_a_second(max(1, round(batch)), 2 * seconds))
            figures[f"rate, {name} / limit at {connections}"] = ratio(ours, most)
            figures[f"{name}, a second at {connections}"] = round(statistics.median(ours), 1)
            figures[f"{name}, images in a batch at {connections}"] = round(batch, 1)
    return figures


def _claim(figures: Figures) -> Claim:
    def value(name: str) -> float:
        found: Any = figures[name]
        return float(found["value"])

    peers = ("BentoML's own", "LitServe")
    points = {
        "plain": all(value(f"rate, ours / plain at {count}") >= OF_PLAIN for count in CONNECTIONS),
        "peers": all(
            value(f"rate, ours, form / {peer} at {count}") >= OF_PEERS for peer in peers for count in (16, 64)
        ),
        "alone": all(value(f"rate, ours, form / {peer} at 1") >= 1 for peer in peers),
        "p99": all(value(f"p99, ours, form / {peer} at {count}") < 1 for peer in peers for count in CONNECTIONS),
        "heavy": all(value(f"rate, resnet18 / limit at {count}") >= OF_HEAVY_LIMIT for count in (16, 64)),
        "batch": value("rate, batch endpoint / limit") >= OF_BATCH_LIMIT,
        "failed": not any(figures[f"ours, failed at {count}"] for count in CONNECTIONS),
    }
    short = [name for name, holds in points.items() if not holds]
    return Claim(
        name="serving",
        claim=f"With its log, metrics, keys and rate limit on, the service answers at least {OF_PLAIN} times as many "
        f"requests as plain FastAPI with the same batcher, {OF_PEERS:g} times as many as BentoML's own batchable API "
        f"and LitServe at 16 and 64 connections and no fewer at 1, each with a lower p99; of a ResNet-18 it answers "
        f"{OF_HEAVY_LIMIT:.0%} of what the cores can, by the batch endpoint {OF_BATCH_LIMIT:.0%}.",
        command="make bench NAME=serving",
        figures={**figures, "falls short": ", ".join(short)},
        holds=not short,
    )


if __name__ == "__main__":
    main()

"""What Prefect and Great Expectations add to a run that has nothing left to do, by stage, before and after work on it.

All is there already, so what is left is what a run costs by itself. The code of BEFORE, taken from this repository's
history, and this one take turns, each in a home of its own: `make run` with a server of its own, and at one that runs.
The same chain as plain functions, without Prefect, stands beside: with its validations kept, without any, and with all
made anew, which is when Great Expectations is imported. Seconds are wall and CPU, of the process and its children; a
stage's reach from the end of the stage before to its own. `start` is all until the first stage: Python, imports,
server, the flow's own start. `exit` is what is left when the program is done: Prefect's last events, the server's end.
"""

import argparse
import contextlib
import json
import math
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.results import Claim, Figures, write_result
from tasks.addresses import answers

ROOT = Path(__file__).resolve().parent.parent
ARMS = Path(__file__).resolve().parent / "orchestration_arms"
BEFORE = "f7f8628"  # before any work on what a run costs by itself
EPOCHS = 1
LONGEST_SECONDS = 900.0
ERROR = 0.05  # of an interval
FEWEST_REPETITIONS = 6  # of fewer, not even the extremes are such an interval
SUFFIXES = {"own_server": "", "running_server": "_running_server"}  # of a figure's name
PLAIN = ("validations_kept", "no_validation", "validated_anew")
Parts = dict[str, dict[str, float]]  # part → wall and cpu, the whole under "all"


@dataclass(frozen=True)
class Tree:
    """Code, and the home that it works in."""

    code: Path
    home: Path

    def environment(self) -> dict[str, str]:
        """As a user's shell would give it, but for the home and the code."""
        foreign = ("PREFECT_", "BENTOML_", "WANDB_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return {**kept, "FLYWHEEL_HOME": str(self.home), "PYTHONPATH": str(self.code)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--homes", type=Path, help="a folder that keeps what the runs make, for the next time")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flywheel-orchestration-", ignore_cleanup_errors=True) as scratch:
        homes = (given.homes or Path(scratch)).resolve()
        trees = {
            "before": Tree(earlier_code(Path(scratch)), homes / "before"),
            "after": Tree(ROOT, homes / "after"),
        }
        for name, tree in trees.items():
            make_all(name, tree)
        if given.repetitions:
            with running_server(Path(scratch) / "server") as url:
                found = repeat(all_arms(trees, url), given.repetitions)
            write_result(claim_of(found))


def repeat(arms: dict[str, Callable[[], Parts]], repetitions: int) -> dict[str, list[Parts]]:
    """All arms take turns, beginning with another one each time; the first runs at the server are not counted."""
    found: dict[str, list[Parts]] = {name: [] for name in arms}
    for name in ("before_running_server", "after_running_server"):
        arms[name]()
    for repetition in range(repetitions):
        by = repetition % len(arms)
        for name in [*arms][by:] + [*arms][:by]:
            found[name].append(arms[name]())
            whole = found[name][-1]["all"]
            print(f"{repetition + 1}: {name:<24} {whole['wall']:6.1f} s, {whole['cpu']:6.1f} CPU-s", flush=True)
    return found


def earlier_code(scratch: Path) -> Path:
    code = scratch / "code-before"
    code.mkdir()
    archive = subprocess.run(["git", "archive", BEFORE], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        raise SystemExit(
            f"The commit {BEFORE} is what this code is compared with; git can't give it here: "
            f"{archive.stderr.decode().strip()}. A whole clone has it, a shallow one has not."
        )
    subprocess.run(["tar", "-x", "-C", str(code)], input=archive.stdout, check=True)
    return code


def make_all(name: str, tree: Tree) -> None:
    """Two runs, so that the model is the champion already and all that can be kept is kept."""
    (tree.home / ".flywheel").mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        took = by_prefect(tree)["all"]
        print(f"{name}: made in {took['wall']:.0f} s, {took['cpu']:.0f} CPU-s", flush=True)


def all_arms(trees: dict[str, Tree], url: str) -> dict[str, Callable[[], Parts]]:
    before, after = trees["before"], trees["after"]
    return {
        "before_own_server": lambda: by_prefect(before),
        "after_own_server": lambda: by_prefect(after),
        "before_running_server": lambda: by_prefect(before, url),
        "after_running_server": lambda: by_prefect(after, url),
        "plain_validations_kept": lambda: plainly(after),
        "plain_no_validation": lambda: plainly(after, validated=False),
        "plain_validated_anew": lambda: plainly(after, forgotten=True),
    }


def by_prefect(tree: Tree, url: str = "") -> Parts:
    """`make run`; what a running server spends meanwhile counts, too."""
    environment = tree.environment() | ({"PREFECT_API_URL": url} if url else {})
    command = [str(ARMS / "with_prefect.py"), "--source", "digits", "--epochs", str(EPOCHS)]
    return timed(command, tree.code, environment)


def plainly(tree: Tree, validated: bool = True, forgotten: bool = False) -> Parts:
    if forgotten:
        shutil.rmtree(tree.home / "reports" / "validations")
    command = [str(ARMS / "without_prefect.py"), str(EPOCHS), "yes" if validated else "no"]
    return timed(command, tree.code, tree.environment())


def timed(command: list[str], folder: Path, environment: dict[str, str]) -> Parts:
    """Run it in a process of its own; its parts, the exit among them, and the whole."""
    server = server_cpu_seconds()
    with tempfile.TemporaryDirectory() as scratch:
        left_in, log = Path(scratch) / "left.json", Path(scratch) / "log"
        started = time.time()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=folder,
                env={**environment, "BENCHMARK_STARTED": repr(started), "BENCHMARK_LEFT_IN": str(left_in)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        _, status, used = os.wait4(process.pid, 0)
        ended = time.time()
        if status:
            raise SystemExit(f"{' '.join(command)} ended with {status}.\n{log.read_text(errors='replace')}")
        left = json.loads(left_in.read_text(encoding="utf-8"))
    cpu = used.ru_utime + used.ru_stime
    parts: Parts = {**left["parts"], "exit": {"wall": ended - left["wall"], "cpu": max(cpu - left["cpu"], 0.0)}}
    at_server = server_cpu_seconds() - server
    if "PREFECT_API_URL" in environment:
        parts["at the server"] = {"wall": 0.0, "cpu": at_server}
        cpu += at_server
    return {**parts, "all": {"wall": ended - started, "cpu": cpu}}


_server: list[psutil.Process] = []


def server_cpu_seconds() -> float:
    return sum(sum(process.cpu_times()[:2]) for process in _server)


@contextlib.contextmanager
def running_server(home: Path) -> Iterator[str]:
    """Prefect's server as `make up` starts it, on a free port, with a database of its own."""
    home.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "log").open("wb") as log:
        quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
        environment = {**os.environ, **quiet, "PREFECT_HOME": str(home), "PREFECT_API_URL": url}
        process = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + LONGEST_SECONDS
        while not answers(f"{url}/health"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit((home / "log").read_text(errors="replace"))
            time.sleep(0.2)
        _server[:] = [psutil.Process(process.pid)]
        yield url
    finally:
        process.terminate()
        process.wait()


def claim_of(found: dict[str, list[Parts]]) -> Claim:
    """By stage, medians; each ratio and difference is of one repetition, with an interval of its median."""
    figures: Figures = {"repetitions": len(found["after_own_server"]), "before": BEFORE}
    for server, suffix in SUFFIXES.items():
        for unit, said in (("wall", "seconds"), ("cpu", "cpu_seconds")):
            for tree in ("before", "after"):
                figures[f"{said}_{tree}{suffix}"] = by_stage(found[f"{tree}_{server}"], unit)
            each = paired(found, f"before_{server}", f"after_{server}", unit, lambda one, other: one / other)
            figures[f"{said}_ratio{suffix}"] = spread(each)
            prefect = paired(found, f"after_{server}", "plain_validations_kept", unit, lambda one, other: one - other)
            figures[f"{said}_prefect_adds{suffix}"] = spread(prefect)
    for unit, said in (("wall", "seconds"), ("cpu", "cpu_seconds")):
        for arm in PLAIN:
            figures[f"{said}_plain_{arm}"] = by_stage(found[f"plain_{arm}"], unit)
        for arm in ("validations_kept", "validated_anew"):
            adds = paired(found, f"plain_{arm}", "plain_no_validation", unit, lambda one, other: one - other)
            figures[f"{said}_{arm}_adds"] = spread(adds)
    return Claim(
        name="orchestration",
        claim="A run with nothing left to do costs less time and less CPU than before the work on it, by a server of "
        "its own and by one that runs; what Prefect and Great Expectations add stands beside.",
        command="make bench NAME=orchestration",
        figures=figures,
        holds=is_cheaper(figures),
    )


def is_cheaper(figures: Figures) -> bool:
    """Whether every ratio's whole interval lies above 1, of repetitions that are enough for one."""
    lows = [ratio["low"] for name, ratio in figures.items() if "seconds_ratio" in name and isinstance(ratio, dict)]
    return int(str(figures["repetitions"])) >= FEWEST_REPETITIONS and min(lows) > 1


def by_stage(runs: list[Parts], unit: str) -> dict[str, float]:
    """Medians, in the order of the run; a median of the whole is not the sum of those of its parts."""
    return {part: round(statistics.median(run[part][unit] for run in runs), 2) for part in runs[0]}


def paired(
    found: dict[str, list[Parts]], first: str, second: str, unit: str, of: Callable[[float, float], float]
) -> list[float]:
    both = zip(found[first], found[second], strict=True)
    return [of(one["all"][unit], other["all"][unit]) for one, other in both]


def spread(values: list[float]) -> dict[str, float]:
    """The median, and the two of the values between which the true one lies at 95 % or more (by the sign test).

    The extremes, where there are fewer than 9.
    """
    ordered, beyond, chance = sorted(values), 0, 0.5 ** len(values)
    while 2 * (chance := chance + math.comb(len(values), beyond + 1) * 0.5 ** len(values)) <= ERROR:
        beyond += 1
    low, value, high = ordered[beyond], statistics.median(ordered), ordered[-1 - beyond]
    return {"value": round(value, 2), "low": round(low, 2), "high": round(high, 2)}


if __name__ == "__main__":
    main()

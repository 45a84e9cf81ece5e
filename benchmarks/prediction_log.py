"""What the prediction log costs, and what it loses when the service is stopped or a worker is killed.

Two services of one champion, one that logs and one that does not, answer the same load in turns; then the one that logs
is stopped under load by SIGTERM, and again one of its workers is killed, and its rows are compared with the answers.
"""

import argparse
import json
import math
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from benchmarks.load import Answers, Target, run_load
from benchmarks.results import Claim, Figures, write_result
from benchmarks.service import Home, serving, wait_until_ready, workers
from flywheel.ledger.predictions import open_predictions

CONNECTIONS = (16, 64)
SECONDS = 4.0
LONGEST_P99 = {16: 1.35, 64: 1.2}
MOST_COST = 0.08  # of the throughput
SETTLE_SECONDS = 3.0  # the log writes twenty times a second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", "--SOURCE", default="digits")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--kills", type=int, default=4)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flywheel-log-", ignore_cleanup_errors=True) as scratch:
        home = Home(Path(scratch), given.source, ("--EPOCHS", "3"))
        files = home.files(200)
        figures: Figures = {"repetitions": given.repetitions, "seconds_each": SECONDS}
        with serving(home, {"FLYWHEEL_SERVICE_LOG": "false"}) as without, serving(home) as with_log:
            figures |= _costs(with_log, without, files, given.repetitions)
            lost = [_lost_rows(home, with_log, files, signal.SIGKILL) for _ in range(given.kills)]
            figures |= {"kills": given.kills, "lost_after_sigkill_max": max(lost)}
        figures["lost_after_sigterm"] = _lost_after_stop(home, files)
    write_result(_claim(figures))


def _costs(
    with_log: tuple[str, psutil.Process], without: tuple[str, psutil.Process], files: Sequence[bytes], repetitions: int
) -> Figures:
    figures: Figures = {}
    for url, _ in (with_log, without):
        run_load(Target.of_files(url, files), max(CONNECTIONS), SECONDS)
    for connections in CONNECTIONS:
        pairs = []
        for repetition in range(repetitions):
            order = (with_log, without) if repetition % 2 else (without, with_log)
            found = {each[0]: _measured(*each, files, connections) for each in order}
            pairs.append((found[with_log[0]], found[without[0]]))
        name = f"connections_{connections}"
        figures[f"throughput_ratio_{name}"] = _ratio([(on[0].rate, off[0].rate) for on, off in pairs])
        figures[f"p99_ratio_{name}"] = _ratio([(on[0].quantile(0.99), off[0].quantile(0.99)) for on, off in pairs])
        figures[f"answers_a_second_{name}"] = statistics.median(on[0].rate for on, _ in pairs)
        figures[f"cost_us_a_row_{name}"] = 1e6 * statistics.median(on[1] - off[1] for on, off in pairs)
        figures[f"server_us_a_request_{name}"] = 1e6 * statistics.median(off[1] for _, off in pairs)
        print({key: figure for key, figure in figures.items() if key.endswith(name)}, flush=True)
    return figures


def _measured(url: str, service: psutil.Process, files: Sequence[bytes], connections: int) -> tuple[Answers, float]:
    """The answers, and the service's CPU seconds a request."""
    before = _cpu(service)
    answers = run_load(Target.of_files(url, files), connections, SECONDS)
    time.sleep(0.5)  # what is written behind the answers
    return answers, (_cpu(service) - before) / len(answers.seconds)


def _cpu(service: psutil.Process) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in workers(service))


def _ratio(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """The geometric mean of the pairs' ratios, with a 95 % interval by Student's t."""
    from scipy.stats import t

    logs = [math.log(one / other) for one, other in pairs]
    mean, count = statistics.fmean(logs), len(logs)
    half = float(t.ppf(0.975, count - 1)) * statistics.stdev(logs) / math.sqrt(count) if count > 1 else math.inf
    return {"value": math.exp(mean), "low": math.exp(mean - half), "high": math.exp(mean + half)}


def _lost_rows(home: Home, service: tuple[str, psutil.Process], files: Sequence[bytes], how: signal.Signals) -> int:
    """Answers that the client has and the log has not, after one worker was ended in the middle of a load."""
    url, process = service
    with ProcessPoolExecutor(1) as pool:
        load = pool.submit(run_load, Target.of_files(url, files), max(CONNECTIONS), 6.0, keep_bodies=True)
        time.sleep(3)
        os.kill(workers(process)[0].pid, how)
        answers = load.result()
    wait_until_ready(url)  # the worker that takes its place writes what lay on the disk
    time.sleep(SETTLE_SECONDS)
    return _missing(home, answers)


def _lost_after_stop(home: Home, files: Sequence[bytes]) -> int:
    with ProcessPoolExecutor(1) as pool:
        with serving(home) as (url, _):
            load = pool.submit(run_load, Target.of_files(url, files), max(CONNECTIONS), 6.0, keep_bodies=True)
            time.sleep(3)
        answers = load.result()
    return _missing(home, answers)


def _missing(home: Home, answers: Answers) -> int:
    log = open_predictions(home.settings)
    recorded: set[str] = set()
    position = 0
    while rows := log.after(position, 20_000):
        recorded.update(each.row.id for each in rows)
        position = rows[-1].position
    answered = [json.loads(body)["prediction_id"] for _, body in answers.bodies]
    if len(recorded) != log.last_position() or not answered:
        raise SystemExit(f"{len(recorded)} different ids in {log.last_position()} rows: a row stands twice")
    return sum(each not in recorded for each in answered)


def _claim(figures: Figures) -> Claim:
    def value(name: str) -> Any:
        found = figures[name]
        return found["value"] if isinstance(found, dict) else found

    slow = [value(f"p99_ratio_connections_{count}") <= limit for count, limit in LONGEST_P99.items()]
    cheap = [value(f"throughput_ratio_connections_{count}") >= 1 - MOST_COST for count in CONNECTIONS]
    return Claim(
        name="prediction_log",
        claim=f"Recording every prediction costs at most {MOST_COST:.0%} of the throughput; p99 is at most "
        f"{LONGEST_P99[64]} times as long at 64 connections, {LONGEST_P99[16]} at 16; SIGTERM loses no row.",
        command="make bench NAME=prediction_log",
        figures=figures,
        holds=all(slow) and all(cheap) and figures["lost_after_sigterm"] == 0,
    )


if __name__ == "__main__":
    main()

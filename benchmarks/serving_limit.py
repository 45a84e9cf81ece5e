"""What the cores could answer if nobody had to be listened to: decode, preprocessing and batched forward, no server."""

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from benchmarks.serving_arms.net import Net

PROCESSES = 2  # as many as the services have workers
HEAD_START = 0.3  # seconds until both have their task
held: "list[tuple[Net, list[bytes]]]" = []


class Limit:
    """As many processes as workers, that work at once."""

    def __init__(self, folder: Path, files: Sequence[bytes]) -> None:
        context = multiprocessing.get_context("spawn")
        given = (str(folder), list(files))
        self._pool = ProcessPoolExecutor(PROCESSES, mp_context=context, initializer=_prepare, initargs=given)

    def __enter__(self) -> Self:
        self.images_a_second(1, 0.1)  # they start now
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def images_a_second(self, batch: int, seconds: float) -> float:
        """Of both together, in batches of this size."""
        begin = time.time() + HEAD_START
        done = [self._pool.submit(_work, begin, batch, seconds) for _ in range(PROCESSES)]
        return sum(each.result() for each in done)


def _prepare(folder: str, files: list[bytes]) -> None:
    import os

    from benchmarks.serving_arms.net import FOLDER, Net

    os.environ[FOLDER] = folder
    held.append((Net(), files))


def _work(begin: float, batch: int, seconds: float) -> float:
    net, files = held[0]
    time.sleep(max(0.0, begin - time.time()))
    started, place, done = time.perf_counter(), 0, 0
    while (took := time.perf_counter() - started) < seconds:
        net.of_files([files[(place + each) % len(files)] for each in range(batch)])
        place, done = place + batch, done + batch
    return done / took

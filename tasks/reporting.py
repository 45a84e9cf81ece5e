"""Who hears of a run's progress: the console of `make run`, or the log of a flow run.

A stage is one step that a person waits for. `stage` makes a function a Prefect task whose start, progress, end and
wall time the current reporter hears of; a flow names no reporter.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from tasks.interruption import end_if_interrupted
from tasks.kept import kept

P = ParamSpec("P")
R = TypeVar("R")
LOG_EVERY_SECONDS = 10.0


class Reporter(Protocol):
    def started(self, stage: str) -> None: ...

    def progress(self, what: str, done: int, total: int) -> None:
        """Any number of times inside a stage; `total` 0 where it is not known."""

    def training(self, event: Mapping[str, Any]) -> None:
        """One event of the training process: step, epoch, resumed."""

    def finished(self, stage: str, seconds: float, result: str) -> None: ...


class LogReporter:
    """Lines in the flow run's own log: what a worker's run shows in the Prefect UI."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = 0.0

    def started(self, stage: str) -> None:
        _logger().info("%s", stage)

    def progress(self, what: str, done: int, total: int) -> None:
        if self._clock() - self._last >= LOG_EVERY_SECONDS:
            self._last = self._clock()
            _logger().info("%s: %s of %s", what, f"{done:,}", f"{total:,}")

    def training(self, event: Mapping[str, Any]) -> None:
        if event.get("event") != "step":
            said = (
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in event.items()
            )
            _logger().info("training: %s", ", ".join(said).removeprefix("event "))

    def finished(self, stage: str, seconds: float, result: str) -> None:
        _logger().info("%s: %s (%.1f s)", stage, result or "done", seconds)


def _logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("flywheel")


_reporter: ContextVar[Reporter | None] = ContextVar("reporter", default=None)
_seconds: ContextVar[dict[str, float] | None] = ContextVar("seconds", default=None)


def reporter() -> Reporter:
    """The run's reporter; the flow run's log where nobody set one."""
    return _reporter.get() or LogReporter()


@contextmanager
def reporting_to(listener: Reporter) -> Iterator[None]:
    token = _reporter.set(listener)
    try:
        yield
    finally:
        _reporter.reset(token)


@contextmanager
def stage_seconds() -> Iterator[dict[str, float]]:
    """The wall time of every stage that runs inside, by name, in order."""
    seconds: dict[str, float] = {}
    token = _seconds.set(seconds)
    try:
        yield seconds
    finally:
        _seconds.reset(token)


def stage(
    name: str,
    run_name: str | None = None,
    *,
    find: Callable[..., Any] | None = None,
    show: Callable[..., object] | None = None,
    **options: Any,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function the Prefect task `name`. `run_name` may hold its parameters: `"train on {dataset.id}"`.

    Where `find` is given, Prefect keeps the stage's record, see `tasks.kept`: `find` has the stage's arguments and says
    what lies on disk for them. A stage that is skipped so is still heard of, and `show(record, *arguments)` leaves in
    the UI what the stage itself would. `options` are Prefect's own: retries, timeout_seconds.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            end_if_interrupted()
            start = time.monotonic()
            reporter().started(name)
            result = function(*args, **kwargs)
            _finished(name, time.monotonic() - start, result)
            return result

        def cached(seconds: float, result: R, *args: P.args, **kwargs: P.kwargs) -> None:
            end_if_interrupted()
            reporter().started(name)
            if show is not None:
                show(result, *args, **kwargs)
            _finished(name, seconds, result)

        made = task(name=name, task_run_name=run_name or name, cache_policy=NO_CACHE, **options)(run)
        return kept(made, find, cached) if find is not None else made

    return decorate


def _finished(name: str, seconds: float, result: object) -> None:
    book = _seconds.get()
    if book is not None:
        book[name] = book.get(name, 0.0) + seconds
    reporter().finished(name, seconds, str(getattr(result, "id", "")))

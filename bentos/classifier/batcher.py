"""The micro-batcher: requests that arrive while the model works go through it together, on one thread.

No timer: a batch is whatever waited while the last one ran, so a lone request is never held back.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueFullError(Exception):
    """The queue is full; the client should try again in a moment."""


class MicroBatcher(Generic[Item, Result]):
    """Gathers items from one event loop and gives them to `work` in batches.

    `work` runs on the batcher's only thread and returns one result an item; an exception among the results fails that
    item alone, and one that it raises fails the batch.
    """

    def __init__(
        self, work: Callable[[list[Item]], Sequence[Result | Exception]], largest_batch: int, longest_queue: int
    ) -> None:
        self._work = work
        self._largest_batch = largest_batch
        self._longest_queue = longest_queue
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._busy = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")

    def submit(self, items: Sequence[Item]) -> list[asyncio.Future[Result]]:
        """One future an item, in order. Raises QueueFullError, and takes none, when they don't all fit in the queue."""
        if len(self._waiting) + len(items) > self._longest_queue:
            raise QueueFullError(f"{len(self._waiting)} images wait, {self._longest_queue} may")
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Result]] = [loop.create_future() for _ in items]
        self._waiting.extend(zip(items, futures, strict=True))
        if not self._busy:
            self._busy = True
            loop.call_soon(self._start_batch, loop)  # one turn of the loop, to gather what has already arrived
        return futures

    def close(self) -> None:
        """Ends the thread after the batch that it works on."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _start_batch(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting = [(item, future) for item, future in self._waiting if not future.done()]  # some callers went away
        batch, self._waiting = waiting[: self._largest_batch], waiting[self._largest_batch :]
        if not batch:
            self._busy = False
            return
        work = loop.run_in_executor(self._thread, self._work, [item for item, _ in batch])
        work.add_done_callback(lambda done: self._finish_batch(loop, [future for _, future in batch], done))

    def _finish_batch(
        self,
        loop: asyncio.AbstractEventLoop,
        futures: list["asyncio.Future[Result]"],
        done: "asyncio.Future[Sequence[Result | Exception]]",
    ) -> None:
        for future, result in zip(futures, self._results(done, len(futures)), strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
        self._start_batch(loop)

    @staticmethod
    def _results(done: "asyncio.Future[Sequence[Result | Exception]]", expected: int) -> Sequence[Result | Exception]:
        """One result an item, whatever `work` did: a batcher that raises here would leave its callers waiting."""
        if done.cancelled():
            return [RuntimeError("the service is stopping")] * expected
        error = done.exception()
        if error is not None:
            return [RuntimeError(f"inference failed: {error!r}")] * expected
        results = done.result()
        if len(results) != expected:
            return [RuntimeError(f"{expected} results expected, {len(results)} found")] * expected
        return results

"""The prediction log's writer: off the request's path, on a thread of its own, in one commit for all that waits.

The inference thread hands over each batch and goes on. What comes in a twentieth of a second is written together, which
halves what it costs; a process that is killed loses what it answered since the last commit. A database that is slow or
gone makes the rows go to a file on this machine's disk, and from there to the database when it answers again. Only
where memory and disk are both full is a row dropped, and counted.
"""

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from bentos.classifier.kept_images import KeptImages
from bentos.classifier.prediction_rows import file_of, identities, measure, rows_of, stripped
from bentos.classifier.predictor import Answered
from bentos.classifier.spool import Spool
from flywheel.ledger import LedgerError
from flywheel.ledger.predictions import PredictionLog, PredictionRow, Serving

log = logging.getLogger(__name__)

MOST_ROWS = 512  # a commit
MOST_WAITING = 20_000  # images, of which the queue holds pixels and file
MOST_WAITING_BYTES = 64 * 1024**2
GATHER_SECONDS = 0.1  # what a killed worker loses; of twice as many rows, each costs a third less
RETRY_SECONDS = 1.0
ASK_SECONDS = 5.0  # between two looks at how many labels are asked for
CLOSE_SECONDS = 20.0
TROUBLES = (SQLAlchemyError, LedgerError, OSError)


@dataclass(frozen=True)
class Keeping:
    """Which images' bytes are kept, and whose label is asked for."""

    images: KeptImages
    share: float  # of all predictions
    ask_below: float  # confidence
    most_asked: int  # open requests


@dataclass(frozen=True)
class LogState:
    """How this worker's log stands, for `/model` and the metrics."""

    waiting: int  # rows in memory
    written: int  # rows in the database, by this worker
    spooled: int  # rows on this machine's disk
    dropped: int  # rows lost, as neither could take them
    trouble: str  # why the database is not written to; empty where it is


@dataclass(frozen=True, slots=True)
class _Batch:
    """Images that wait to be recorded, and the bytes of their pixels and files: 0 where they were measured already."""

    answered: Answered
    measured: NDArray[np.float32] | None
    size: int

    @property
    def count(self) -> int:
        return len(self.answered.seen)


class PredictionLogger:
    """One a worker. `record` is called on the inference thread, all else here happens on the log's own."""

    def __init__(
        self,
        opener: Callable[[], PredictionLog],
        spool: Spool,
        keeping: Keeping | None = None,
        on_dropped: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._opener = opener
        self._spool = spool
        self._keeping = keeping
        self._on_dropped = on_dropped
        self._database: PredictionLog | None = None
        self._waiting: deque[_Batch] = deque()
        self._images = self._bytes = 0  # that wait
        self._busy = False
        self._flushing = 0  # who waits for what waits
        self._changed = threading.Condition()
        self._servings: dict[int, Serving] = {}  # all of this worker
        self._entered: dict[int, Serving] = {}  # those not yet in the database
        self._state = LogState(0, 0, 0, 0, "")
        self._retry_at = 0.0
        self._asked = (0.0, 0)  # when it was counted, and how many
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    @property
    def state(self) -> LogState:
        return replace(self._state, waiting=self._images, spooled=self._spool.rows)

    def enter(self, serving: Serving) -> None:
        """A model begins to answer in this worker, or was refused."""
        with self._changed:
            self._servings[serving.id] = self._entered[serving.id] = serving
            self._changed.notify()

    def record(self, answered: Answered) -> None:
        """Hands a batch over. Where so many large images wait that memory would suffer, they are measured here and now,
        and neither kept nor asked about."""
        for bundle in filter(None, (answered.bundle, answered.shadow)):
            if bundle.serving.id not in self._servings:
                self.enter(bundle.serving)
        if self._images + len(answered.seen) > MOST_WAITING:
            self._drop(len(answered.seen))
            return
        batch = _Batch(answered, None, sum(each.pixels.nbytes + each.size for each in answered.seen))
        if self._bytes + batch.size > MOST_WAITING_BYTES:
            measured = measure([each.pixels for each in answered.seen])
            batch = _Batch(stripped(answered), measured, 0)
        with self._changed:
            self._waiting.append(batch)
            self._images += batch.count
            self._bytes += batch.size
            if len(self._waiting) == 1 or self._images >= MOST_ROWS:  # else the log's thread gathers already
                self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Waits until all that was recorded is in the database or on disk; whether it is."""
        with self._changed:
            self._flushing += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: not self._waiting and not self._busy, seconds)
            finally:
                self._flushing -= 1

    def close(self) -> None:
        """Writes what waits, then ends the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(CLOSE_SECONDS)
        if self._database is not None:
            self._database.close()
        self._spool.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work, RETRY_SECONDS)
                if self._closing and not self._waiting and not self._entered:
                    return
                self._gather()
                batches, entered = self._take(), list(self._entered.values())
                self._busy = True
            try:
                self._write(entered, self._made(batches))
                self._drain_spool()
            except Exception:  # the border: a log that has ended would be noticed by nobody
                log.exception("the prediction log failed on %d batches", len(batches))
                self._drop(sum(batch.count for batch in batches))
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _gather(self) -> None:
        """Waits for more, unless somebody waits for what there is; the caller holds the condition."""
        if self._waiting and not self._flushing:
            self._changed.wait_for(lambda: self._closing or self._flushing or self._images >= MOST_ROWS, GATHER_SECONDS)

    def _has_work(self) -> bool:
        put_off = time.monotonic() < self._retry_at
        return bool(self._waiting or self._closing or (not put_off and (self._entered or self._spool.rows)))

    def _take(self) -> list["_Batch"]:
        """What one commit takes; the caller holds the condition."""
        taken: list[_Batch] = []
        while self._waiting and sum(batch.count for batch in taken) < MOST_ROWS:
            taken.append(self._waiting.popleft())
        self._images -= sum(batch.count for batch in taken)
        self._bytes -= sum(batch.size for batch in taken)
        return taken

    def _made(self, batches: Sequence["_Batch"]) -> list[PredictionRow]:
        """Measured together, where they are not."""
        waiting = [batch for batch in batches if batch.measured is None]
        together = measure([each.pixels for batch in waiting for each in batch.answered.seen])
        parts = iter(np.split(together, np.cumsum([batch.count for batch in waiting])[:-1]))
        rows: list[PredictionRow] = []
        for batch in batches:
            images = identities(batch.answered)
            measured = next(parts) if batch.measured is None else batch.measured
            rows += rows_of(batch.answered, images, measured, self._keep(batch.answered, images))
        return rows

    def _write(self, entered: Sequence[Serving], rows: Sequence[PredictionRow]) -> None:
        """To the database, or to the disk."""
        if not entered and not rows:
            return
        if time.monotonic() >= self._retry_at:
            try:
                self._opened().append(entered, rows)
            except TROUBLES as error:
                self._put_off(error)
            else:
                self._written(len(rows))
                self._forget(entered)
                return
        if self._closing:
            self._forget(entered)
        if not rows:
            return
        try:
            self._spool.append([self._servings[each] for each in {row.serving_id for row in rows}], rows)
        except TROUBLES as error:
            log.error("%d predictions are lost: neither database nor disk takes them (%s)", len(rows), error)
            self._drop(len(rows))

    def _drain_spool(self) -> None:
        """What lies on the disk goes to the database, a part at a time."""
        if self._spool.rows == 0 or time.monotonic() < self._retry_at:
            return
        try:
            entered, rows = self._spool.first(MOST_ROWS)
        except TROUBLES as error:
            self._spool.set_aside(error)
            return
        try:
            self._opened().append(entered, rows)
        except TROUBLES as error:
            self._put_off(error)
            return
        self._spool.remove(rows)
        self._written(len(rows))

    def _opened(self) -> PredictionLog:
        if self._database is None:
            self._database = self._opener()
        return self._database

    def _put_off(self, error: Exception) -> None:
        """The database is left alone for a moment; its connections may be dead, so they are closed. The next one may be
        another, which knows nobody here."""
        trouble = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
        if not self._state.trouble:
            log.warning("the prediction log's database does not answer, rows go to %s: %s", self._spool.file, trouble)
        with self._changed:
            self._state = replace(self._state, trouble=trouble)
            self._entered = dict(self._servings)
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if self._database is not None:
            with contextlib.suppress(SQLAlchemyError):
                self._database.close()
            self._database = None

    def _written(self, rows: int) -> None:
        if self._state.trouble:
            log.warning("the prediction log's database answers again")
        with self._changed:
            self._state = replace(self._state, written=self._state.written + rows, trouble="")

    def _forget(self, entered: Sequence[Serving]) -> None:
        with self._changed:
            for serving in entered:
                self._entered.pop(serving.id, None)

    def _drop(self, rows: int) -> None:
        with self._changed:
            self._state = replace(self._state, dropped=self._state.dropped + rows)
        self._on_dropped(rows)

    def _keep(self, answered: Answered, images: Sequence[str]) -> list[bool]:
        """Whose bytes were kept. Those of low confidence are asked for, as long as few enough are."""
        kept = [False] * len(answered.seen)
        keeping = self._keeping
        if keeping is None:
            return kept
        asked: list[str] = []
        unsure: list[bool] = (answered.probabilities.max(1) < keeping.ask_below).tolist()
        for row, each in enumerate(answered.seen):
            asks = unsure[row] and self._may_ask(answered.bundle.serving.task_id, keeping.most_asked, len(asked))
            if (asks or _is_sampled(each.ask.id, keeping.share)) and each.ask.size > 0:
                kept[row] = keeping.images.keep(images[row], file_of(each))
                if kept[row] and asks:
                    asked.append(each.ask.id)
        if asked:
            self._ask(asked, f"its confidence is below {keeping.ask_below:g}")
        return kept

    def _may_ask(self, task_id: str, most: int, now: int) -> bool:
        counted_at, asked = self._asked
        if time.monotonic() - counted_at > ASK_SECONDS and time.monotonic() >= self._retry_at:
            try:
                asked = self._opened().count_asked(task_id)
            except TROUBLES as error:
                self._put_off(error)
                return False
            self._asked = (time.monotonic(), asked)
        return bool(self._asked[0]) and asked + now < most

    def _ask(self, prediction_ids: list[str], reason: str) -> None:
        try:
            self._opened().ask(prediction_ids, reason)
        except TROUBLES as error:
            self._put_off(error)
        else:
            self._asked = (self._asked[0], self._asked[1] + len(prediction_ids))


def _is_sampled(prediction_id: str, share: float) -> bool:
    """By the random end of the id: the same on any worker, and told from the id alone."""
    return share > 0 and int(prediction_id[-8:], 16) < share * 2**32

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
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from bentos.classifier.bundle import Bundle
from bentos.classifier.kept_images import KeptImages
from bentos.classifier.predictor import Answered, Seen
from bentos.classifier.spool import Spool
from flywheel.data.decode import image_id
from flywheel.data.measurements import statistics
from flywheel.ledger import LedgerError
from flywheel.ledger.predictions import PredictionLog, PredictionRow, Serving
from flywheel.model.inference import softmax

log = logging.getLogger(__name__)

MOST_ROWS = 512  # a commit
MOST_WAITING = 20_000  # images, of which the queue holds pixels and file
MOST_WAITING_BYTES = 64 * 1024**2
GATHER_SECONDS = 0.05
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
    """How the log stands, for `/model` and the metrics."""

    waiting: int  # rows in memory
    written: int  # rows in the database, by this worker
    spooled: int  # rows on this machine's disk
    dropped: int  # rows lost, as neither could take them
    trouble: str  # why the database is not written to; empty where it is


@dataclass(frozen=True, slots=True)
class _Batch:
    """Images that wait to be recorded, with so many bytes; or their rows, made already."""

    answered: Answered | None
    rows: list[PredictionRow]
    count: int
    size: int


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
        """Hands a batch over. Measured here and now only where so many large images wait that memory would suffer."""
        for bundle in filter(None, (answered.bundle, answered.shadow)):
            if bundle.serving.id not in self._servings:
                self.enter(bundle.serving)
        count = len(answered.seen)
        size = sum(each.pixels.nbytes + len(each.ask.content) for each in answered.seen)
        if self._images + count > MOST_WAITING:
            self._drop(count)
            return
        if self._bytes + size > MOST_WAITING_BYTES:
            batch = _Batch(None, self._rows([answered]), count, 0)
        else:
            batch = _Batch(answered, [], count, size)
        with self._changed:
            self._waiting.append(batch)
            self._images += count
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
        made = [row for batch in batches for row in batch.rows]
        return made + self._rows([batch.answered for batch in batches if batch.answered is not None])

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
        entered, rows = self._spool.first(MOST_ROWS)
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

    def _rows(self, batches: Sequence[Answered]) -> list[PredictionRow]:
        """Measured together: a call on many images costs hardly more than one on few."""
        if not batches:
            return []
        measured = _statistics([each.pixels for answered in batches for each in answered.seen])
        ends = np.cumsum([len(answered.seen) for answered in batches])[:-1]
        parts = zip(batches, np.split(measured, ends), strict=True)
        return [row for answered, part in parts for row in self._rows_of_one(answered, part)]

    def _rows_of_one(self, answered: Answered, measured: NDArray[np.float32]) -> list[PredictionRow]:
        identities = [each.image_id or image_id(each.pixels) for each in answered.seen]
        kept = self._keep(answered, identities)
        outputs = (answered.probabilities, answered.embeddings)
        rows = _rows_of(answered.bundle, answered.at, answered.seen, *outputs, measured, identities, kept)
        if answered.shadow is not None:
            rows += self._shadow_rows(answered, answered.shadow, measured, identities, kept)
        return rows

    @staticmethod
    def _shadow_rows(
        answered: Answered, shadow: Bundle, measured: NDArray[np.float32], identities: list[str], kept: list[bool]
    ) -> list[PredictionRow]:
        """What the shadow says of the same images, under ids of its own."""
        chosen = [row for row, each in enumerate(answered.seen) if each.for_shadow is not None]
        packed = [each.for_shadow for each in answered.seen if each.for_shadow is not None]
        outputs = shadow.classifier.predict_packed(np.concatenate(packed))
        seen = [answered.seen[row] for row in chosen]
        rows = _rows_of(
            shadow,
            answered.at,
            seen,
            softmax(outputs.logits),
            outputs.embeddings,
            measured[chosen],
            [identities[row] for row in chosen],
            [kept[row] for row in chosen],
        )
        return [row._replace(id=shadow_id(row.id)) for row in rows]

    def _keep(self, answered: Answered, identities: list[str]) -> list[bool]:
        """Whose bytes were kept. Those of low confidence are asked for, as long as few enough are."""
        keeping = self._keeping
        if keeping is None:
            return [False] * len(identities)
        kept: list[bool] = []
        asked: list[str] = []
        confidence = answered.probabilities.max(1)
        for row, (each, identity) in enumerate(zip(answered.seen, identities, strict=True)):
            unsure = bool(confidence[row] < keeping.ask_below) and self._may_ask(keeping.most_asked, len(asked))
            wanted = unsure or _is_sampled(each.ask.id, keeping.share)
            done = wanted and keeping.images.keep(identity, _file_of(each))
            kept.append(done)
            if done and unsure:
                asked.append(each.ask.id)
        if asked:
            self._ask(asked, f"its confidence is below {keeping.ask_below:g}")
        return kept

    def _may_ask(self, most: int, now: int) -> bool:
        counted_at, asked = self._asked
        if time.monotonic() - counted_at > ASK_SECONDS and time.monotonic() >= self._retry_at:
            try:
                asked = self._opened().count_asked()
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


def shadow_id(prediction_id: str) -> str:
    """The id of a shadow's prediction: that of the answer which the client got, with another variant of random bits, so
    that the two can be paired."""
    return str(UUID(int=UUID(prediction_id).int ^ 1))


def _rows_of(
    bundle: Bundle,
    at: int,
    seen: Sequence[Seen],
    probabilities: NDArray[np.float32],
    embeddings: NDArray[np.float32],
    measured: NDArray[np.float32],
    identities: Sequence[str],
    kept: Sequence[bool],
) -> list[PredictionRow]:
    projected = bundle.projection.apply(embeddings).astype(np.float16)
    predicted = probabilities.argmax(1).tolist()
    serving = bundle.serving.id
    return [
        PredictionRow(
            each.ask.id,
            at,
            serving,
            predicted[row],
            probabilities[row].tobytes(),
            projected[row].tobytes(),
            measured[row].tobytes(),
            identities[row],
            each.header.format,
            each.header.width,
            each.header.height,
            len(each.ask.content),
            each.ask.client,
            kept[row],
        )
        for row, each in enumerate(seen)
    ]


def _statistics(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Those of one shape together: that is what makes them cheap."""
    by_shape: dict[Any, list[int]] = {}
    for row, image in enumerate(images):
        by_shape.setdefault(image.shape, []).append(row)
    parts = {shape: statistics(np.stack([images[row] for row in rows])) for shape, rows in by_shape.items()}
    found = np.empty((len(images), next(iter(parts.values())).shape[1]), np.float32)
    for shape, rows in by_shape.items():
        found[rows] = parts[shape]
    return found


def _is_sampled(prediction_id: str, share: float) -> bool:
    """By the random end of the id: the same on any worker, and told from the id alone."""
    return share > 0 and int(prediction_id[-8:], 16) < share * 2**32


def _file_of(seen: Seen) -> bytes:
    """What was sent; an array as a lossless file."""
    if isinstance(seen.ask.content, bytes):
        return seen.ask.content
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.fromarray(seen.ask.content).save(file, "PNG")
    return file.getvalue()

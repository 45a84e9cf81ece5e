"""What a worker counts of each model that it serves, for whoever decides on a trial: answers, failures, time."""

import threading
from bisect import bisect_right
from collections.abc import Iterable
from datetime import UTC, datetime

from flywheel.ledger.predictions import BATCH_SECONDS, Serving, Tally


class Tallies:
    """Filled by the inference thread, taken once a second by the watch. Safe to share between threads."""

    def __init__(self) -> None:
        self._counted: dict[int, tuple[int, int, list[int]]] = {}  # by serving: answers, failures, buckets
        self._changed: set[int] = set()
        self._lock = threading.Lock()

    def answered(self, serving: Serving, answers: int, seconds: float) -> None:
        """A batch that took so long."""
        with self._lock:
            before, failures, buckets = self._entry(serving)
            buckets[bisect_right(BATCH_SECONDS, seconds)] += answers
            self._counted[serving.id] = (before + answers, failures, buckets)
            self._changed.add(serving.id)

    def failed(self, serving: Serving, requests: int) -> None:
        with self._lock:
            answers, before, buckets = self._entry(serving)
            self._counted[serving.id] = (answers, before + requests, buckets)
            self._changed.add(serving.id)

    def changed(self) -> list[Tally]:
        """Those that changed since they were asked for last."""
        now = datetime.now(UTC)
        with self._lock:
            found = []
            for serving in self._changed:
                answers, failures, buckets = self._counted[serving]
                found.append(Tally(serving, answers, failures, tuple(buckets), now))
            self._changed.clear()
        return found

    def note_anew(self, servings: Iterable[Serving]) -> None:
        """Those who stand are noted although nothing changed: that they are there is news, too."""
        with self._lock:
            for serving in servings:
                self._entry(serving)
                self._changed.add(serving.id)

    def again(self, tallies: list[Tally]) -> None:
        """What could not be noted changed still."""
        with self._lock:
            self._changed |= {each.serving_id for each in tallies}

    def forget(self, serving: Serving) -> None:
        """Of one that answers no more, once it was noted."""
        with self._lock:
            if serving.id not in self._changed:
                self._counted.pop(serving.id, None)

    def _entry(self, serving: Serving) -> tuple[int, int, list[int]]:
        return self._counted.setdefault(serving.id, (0, 0, [0] * (len(BATCH_SECONDS) + 1)))

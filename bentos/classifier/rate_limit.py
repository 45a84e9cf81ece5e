"""How often a key may ask: token buckets that all workers of a service share, so that the limit is the service's."""

import fcntl
import mmap
import os
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path

BUCKET = struct.Struct("<dd")  # tokens, and when they were counted


class RateLimit:
    """A bucket a key, in a file that every worker maps. Time is the machine's monotonic clock, the same for all."""

    def __init__(
        self, file: Path, keys: Sequence[str], rate: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._places = {key: place * BUCKET.size for place, key in enumerate(sorted(keys))}
        self._file = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        size = max(len(keys), 1) * BUCKET.size
        if os.fstat(self._file).st_size < size:
            os.ftruncate(self._file, size)  # zeros: counted at time 0, so full at the first look
        self._buckets = mmap.mmap(self._file, size)

    def wait_for(self, key: str) -> float:
        """0 where the request may go on, and takes its token; else the seconds until there is one."""
        place = self._places[key]
        fcntl.lockf(self._file, fcntl.LOCK_EX, BUCKET.size, place)
        try:
            tokens, counted = BUCKET.unpack_from(self._buckets, place)
            now = self._clock()
            tokens = min(self._burst, tokens + (now - counted) * self._rate) if counted else self._burst
            if tokens < 1:
                return (1 - tokens) / self._rate
            BUCKET.pack_into(self._buckets, place, tokens - 1, now)
            return 0.0
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, BUCKET.size, place)

    def close(self) -> None:
        self._buckets.close()
        os.close(self._file)

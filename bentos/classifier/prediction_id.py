"""UUIDv7: a prediction's identity, given at the request (RFC 9562, section 5.7)."""

import secrets
import threading
import time
from collections.abc import Callable
from uuid import UUID

NANOSECONDS_A_MILLISECOND = 1_000_000
FRACTION_BITS = 12
RANDOM_BITS = 62


class PredictionIds:
    """Ids that grow with time, strictly within one process, and carry 62 random bits against other processes.

    The millisecond is followed by its fraction in 12 bits (RFC 9562, section 6.2, method 3); two requests within one
    fraction, or a clock that was set back, take the next fraction.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock  # nanoseconds since 1970
        self._last = -1
        self._lock = threading.Lock()

    def next(self) -> UUID:
        milliseconds, rest = divmod(self._clock(), NANOSECONDS_A_MILLISECOND)
        now = milliseconds << FRACTION_BITS | (rest << FRACTION_BITS) // NANOSECONDS_A_MILLISECOND
        with self._lock:
            self._last = max(now, self._last + 1)
            ticks = self._last
        time_bits, fraction = divmod(ticks, 1 << FRACTION_BITS)
        version, variant = 0x7, 0b10
        return UUID(
            int=time_bits << 80 | version << 76 | fraction << 64 | variant << 62 | secrets.randbits(RANDOM_BITS)
        )

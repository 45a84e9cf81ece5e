"""UUIDv7: a prediction's identity, given at the request (RFC 9562, section 5.7)."""

import secrets
import threading
import time
from collections.abc import Callable
from uuid import UUID

NANOSECONDS_A_MILLISECOND = 1_000_000
FRACTION_BITS = 12
RANDOM_BITS = 62
RANDOM_BYTES = 8
RANDOM_BLOCK = 512 * RANDOM_BYTES


class PredictionIds:
    """Ids that grow with time, strictly within one process, and carry 62 random bits against other processes.

    The millisecond is followed by its fraction in 12 bits (RFC 9562, section 6.2, method 3); two requests within one
    fraction, or a clock that was set back, take the next fraction.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock  # nanoseconds since 1970
        self._last = -1
        self._lock = threading.Lock()
        self._block, self._drawn = b"", 0

    def next(self) -> UUID:
        milliseconds, rest = divmod(self._clock(), NANOSECONDS_A_MILLISECOND)
        now = milliseconds << FRACTION_BITS | (rest << FRACTION_BITS) // NANOSECONDS_A_MILLISECOND
        with self._lock:
            self._last = max(now, self._last + 1)
            ticks = self._last
        time_bits, fraction = divmod(ticks, 1 << FRACTION_BITS)
        version, variant = 0x7, 0b10
        random = self._random_bits()
        return UUID(int=time_bits << 80 | version << 76 | fraction << 64 | variant << 62 | random)

    def _random_bits(self) -> int:
        """From a block that the system drew: a call for each id would cost more than the rest of it."""
        with self._lock:
            if self._drawn >= len(self._block):
                self._block, self._drawn = secrets.token_bytes(RANDOM_BLOCK), 0
            taken = self._block[self._drawn : self._drawn + RANDOM_BYTES]
            self._drawn += RANDOM_BYTES
        return int.from_bytes(taken, "big") >> (8 * RANDOM_BYTES - RANDOM_BITS)

"""What was sent before a stop is answered.

uvicorn, told to stop, closes every idle connection at once, also one whose next request lies unread in the socket: its
client sees a reset. So a worker goes on for a moment first, and ends each connection with the next answer on it.
"""

import asyncio
import signal
import threading
from types import FrameType

from starlette.types import Message

SECONDS = 0.5  # a request that was sent lies in the socket no longer


class Drain:
    """One a worker process."""

    def __init__(self) -> None:
        self.begun = False
        self._listens = False

    def listen(self) -> None:
        """Take SIGTERM from uvicorn, which gets it back when the moment is over. Again, or off the main thread, it
        does nothing."""
        if self._listens or threading.current_thread() is not threading.main_thread():
            return
        self._listens = True
        loop, uvicorns = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)

        def told(number: int, frame: FrameType | None) -> None:
            if not callable(uvicorns):
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.raise_signal(signal.SIGTERM)
            elif self.begun:  # a second time: at once
                uvicorns(number, frame)
            else:
                self.begun = True
                loop.call_soon_threadsafe(loop.call_later, SECONDS, uvicorns, number, frame)

        signal.signal(signal.SIGTERM, told)

    @staticmethod
    def end_connection(message: Message) -> Message:
        """The start of an answer that is the last one on its connection."""
        if message["type"] != "http.response.start":
            return message
        return {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}


drain = Drain()

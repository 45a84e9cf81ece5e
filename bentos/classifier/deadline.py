"""The longest that a request may take, a slow upload included.

BentoML's own limit sets a timer for each request and never takes it back: of a fast service tens of thousands wait at a
time, and each costs as much as parsing the request. Here one timer a second looks at all that is in flight.
"""

import asyncio
import logging
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.classifier.drain import drain
from bentos.classifier.errors import Refusal

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


@dataclass(eq=False, slots=True)
class _Flight:
    """A request that is not answered yet."""

    task: "asyncio.Task[object]"
    until: float  # on the loop's clock
    begun: bool = False  # its answer
    late: bool = False


class Deadline:
    """ASGI middleware: 504 where a request is not answered in time; it is looked at once a second.

    It stands where BentoML's own would, outside all others, and takes what that takes.
    """

    def __init__(self, app: ASGIApp, timeout: float) -> None:
        self.app = app
        self._seconds = timeout
        self._flights: set[_Flight] = set()
        self._looking = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        if scope["type"] != "http" or task is None:
            if scope["type"] == "lifespan":
                drain.listen()  # uvicorn has taken the signals by now
            await self.app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        flight = _Flight(task, loop.time() + self._seconds)

        async def watched(message: Message) -> None:
            flight.begun = True
            await send(drain.end_connection(message) if drain.begun else message)

        self._flights.add(flight)
        if not self._looking:
            self._looking = True
            loop.call_later(LOOK_SECONDS, self._look, loop)
        try:
            await self.app(scope, receive, watched)
        except asyncio.CancelledError:
            if not flight.late or task.uncancel() > 0:  # somebody else's doing
                raise
            await self._tell(flight, scope, receive, send)
        finally:
            self._flights.discard(flight)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for flight in self._flights:
            if now > flight.until and not flight.late:
                flight.late = True
                flight.task.cancel()
        self._looking = bool(self._flights)
        if self._looking:
            loop.call_later(LOOK_SECONDS, self._look, loop)

    async def _tell(self, flight: _Flight, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"][:200]
        log.warning("%s %s was not answered within %g s", scope["method"], path, self._seconds)
        if not flight.begun:
            message = f"{scope['method']} {path}: not answered within {self._seconds:g} s."
            hint = "Send fewer or smaller images at once; try again after the seconds in Retry-After."
            refusal = Refusal(504, "timeout", message, hint, {"Retry-After": "1", "connection": "close"})
            await refusal.response()(scope, receive, send)

"""`/readyz` for the whole service: BentoML's own speaks for the one worker that happens to answer."""

from collections.abc import Callable

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from bentos.classifier.crew import Crew
from bentos.classifier.drain import drain
from bentos.classifier.errors import Refusal

PATH = "/readyz"


class Readiness:
    """ASGI middleware: 200 when every worker stands, 503 until then and when one has died."""

    def __init__(self, app: ASGIApp, crew: Callable[[], Crew | None]) -> None:
        self.app = app
        self._crew = crew

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH:
            await self.app(scope, receive, send)
            return
        crew = self._crew()
        ready, workers = (crew.ready, crew.workers) if crew else (0, 1)
        if ready >= workers and not drain.begun:
            await PlainTextResponse("\n")(scope, receive, send)
            return
        message = "The service stops." if drain.begun else f"{ready} of {workers} workers are ready."
        refusal = Refusal(503, "not_ready", message, "Wait: a worker that died is replaced.", {"Retry-After": "5"})
        await refusal.response()(scope, receive, send)

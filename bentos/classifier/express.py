"""The way that most requests take: past the layers of two frameworks, which cost more than the model does.

A POST to `/classify` or `/classify_batch` without a query needs no routing and no parameters. It goes straight to what
the routes would call. Anything else, and all documentation, is the frameworks'.
"""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from bentos.classifier.classifying import Classifying
from bentos.classifier.errors import INTERNAL, refusal_of

Answering = Callable[[Request], Awaitable[Response]]


class Express:
    """ASGI middleware within all others: nothing is passed by that guards, limits or counts."""

    def __init__(self, app: ASGIApp, classifying: Classifying) -> None:
        self.app = app
        self._answering: Mapping[str, Answering] = {
            "/classify": classifying.one,
            "/classify_batch": classifying.many,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        direct = scope["type"] == "http" and scope["method"] == "POST" and not scope["query_string"]
        answering = self._answering.get(scope["path"]) if direct else None
        if answering is None:
            await self.app(scope, receive, send)
            return
        try:
            response = await answering(Request(scope, receive))
        except Exception as error:
            refusal = refusal_of(error)
            await refusal.response()(scope, receive, send)
            if refusal.code == INTERNAL:
                raise  # into the server's log, as the frameworks do
            return
        await response(scope, receive, send)

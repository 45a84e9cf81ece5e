"""ASGI middleware over every route, BentoML's own included: the limit on a body, and the one shape of errors."""

from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.classifier.errors import Refusal, refusal_for_status

CLOSE = {"connection": "close"}  # the rest of the body is not read


class _RefusedError(Exception):
    """Stops the app under the guard in the middle of reading."""


class BodyLimit:
    """Answers 413 by Content-Length, or as soon as a body without one has grown past the limit; and 503 when the
    requests that this worker holds at once have grown past theirs, so that many large ones can't fill the memory."""

    def __init__(self, app: ASGIApp, largest_body: int, most_held: int) -> None:
        self.app = app
        self.largest_body = largest_body
        self.most_held = most_held
        self._held = 0  # bytes read for requests that are not answered yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif _declared_length(scope) > self.largest_body:
            await self._too_large().response()(scope, receive, send)
        else:
            await self._count(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Counts what is read. The app under it may catch the stop and answer its own error: that answer is dropped."""
        read, begun = 0, False
        refusal: Refusal | None = None

        async def counted() -> Message:
            nonlocal read, refusal
            message = await receive()
            read += len(message.get("body", b""))
            self._held += len(message.get("body", b""))
            if read > self.largest_body or self._held > self.most_held:
                refusal = self._too_large() if read > self.largest_body else self._too_many()
                raise _RefusedError
            return message

        async def watched(message: Message) -> None:
            nonlocal begun
            if refusal is None or begun:
                begun = True
                await send(message)

        try:
            await self.app(scope, counted, watched)
        except Exception:
            if refusal is None:
                raise
        finally:
            self._held -= read
        if refusal is not None and not begun:
            await refusal.response()(scope, receive, send)

    def _too_large(self) -> Refusal:
        limit = f"{self.largest_body:,} bytes"
        message = f"The request's body is larger than {limit}."
        hint = f"Send at most {limit}; make the image smaller, or send fewer at once."
        return Refusal(413, "body_too_large", message, hint, CLOSE)

    def _too_many(self) -> Refusal:
        message = f"The requests being answered hold more than {self.most_held:,} bytes together."
        hint = "Try again after the seconds in Retry-After; send smaller images if it stays."
        return Refusal(503, "overloaded", message, hint, {"retry-after": "1", **CLOSE})


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


class OneErrorShape:
    """Turns an error answered as plain text into the one shape: BentoML answers 404 for unknown paths itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        replaced = False

        async def shaped(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] >= 400 and not _is_json(message):
                replaced = True
                status = message["status"]
                detail = HTTPStatus(status).phrase
                refusal = refusal_for_status(status, scope["method"], scope["path"], detail)
                await refusal.response()(scope, receive, send)
            elif not replaced:
                await send(message)

        await self.app(scope, receive, shaped)


def _is_json(message: Message) -> bool:
    headers: list[tuple[bytes, bytes]] = message.get("headers", [])
    return any(name.lower() == b"content-type" and b"json" in value for name, value in headers)

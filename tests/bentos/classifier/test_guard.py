"""The body limit: by the declared length before a byte is read, by count where none is declared."""

import asyncio
import json
from typing import Any

from bentos.classifier.guard import BodyLimit, OneErrorShape

CHUNK = b"x" * 1000


class Client:
    """Speaks ASGI: sends chunks as long as the app reads them, keeps what is answered."""

    def __init__(self, chunks: int, headers: list[tuple[bytes, bytes]] = []) -> None:  # noqa: B006
        self.scope = {"type": "http", "headers": headers}
        self.left = chunks
        self.sent = 0
        self.answers: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        self.left -= 1
        self.sent += len(CHUNK)
        return {"type": "http.request", "body": CHUNK, "more_body": self.left > 0}

    async def send(self, message: dict[str, Any]) -> None:
        self.answers.append(message)

    @property
    def status(self) -> int:
        return int(self.answers[0]["status"])

    @property
    def body(self) -> Any:
        return json.loads(self.answers[1]["body"])


async def _reads_all(_: Any, receive: Any, send: Any) -> None:
    while (await receive())["more_body"]:
        pass
    await _answer(200, send)


async def _answers_its_own_500(_: Any, receive: Any, send: Any) -> None:
    """As a framework does that catches what `receive` raises."""
    try:
        await _reads_all(_, receive, send)
    except Exception:  # noqa: BLE001
        await _answer(500, send)


async def _answer(status: int, send: Any) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def _ask(app: Any, client: Client) -> Client:
    asyncio.run(BodyLimit(app, largest_body=5000, most_held=100_000)(client.scope, client.receive, client.send))
    return client


def test_a_body_of_just_the_limit_passes() -> None:
    assert _ask(_reads_all, Client(5)).status == 200


def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    client = _ask(_reads_all, Client(6, [(b"content-length", b"5001")]))
    assert client.status == 413
    assert client.sent == 0
    assert client.body["error"]["code"] == "body_too_large"
    assert (b"connection", b"close") in client.answers[0]["headers"]


def test_a_body_without_a_length_is_refused_at_the_first_byte_over() -> None:
    client = _ask(_reads_all, Client(1000))
    assert client.status == 413
    assert client.sent == 6000


def test_what_the_app_answers_to_the_stop_is_dropped() -> None:
    client = _ask(_answers_its_own_500, Client(1000))
    assert [message["type"] for message in client.answers] == ["http.response.start", "http.response.body"]
    assert client.status == 413


def test_requests_that_hold_too_much_together_are_refused_and_what_is_answered_is_let_go() -> None:
    async def scenario() -> list[Client]:
        release = asyncio.Event()

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await release.wait()
            await _answer(200, send)

        limit = BodyLimit(waits, largest_body=5000, most_held=2500)
        clients = [Client(1) for _ in range(4)]
        first, second, third, later = (limit(client.scope, client.receive, client.send) for client in clients)
        held = [asyncio.ensure_future(call) for call in (first, second)]
        await asyncio.sleep(0)
        await third
        release.set()
        await asyncio.gather(*held)
        await later
        return clients

    first, second, third, later = asyncio.run(scenario())
    assert [client.status for client in (first, second, third, later)] == [200, 200, 503, 200]
    assert (b"retry-after", b"1") in third.answers[0]["headers"]


async def _plain_404(_: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"Not Found"})


def test_a_plain_text_error_is_answered_in_the_one_shape_and_once() -> None:
    client = Client(1)
    client.scope |= {"method": "GET", "path": "/nothing"}
    asyncio.run(OneErrorShape(_plain_404)(client.scope, client.receive, client.send))
    assert len(client.answers) == 2
    assert client.status == 404
    assert client.body["error"]["code"] == "no_such_path"
    assert client.body["error"]["message"] == "GET /nothing: Not Found."


def test_what_is_no_error_passes_untouched() -> None:
    client = Client(1)
    asyncio.run(OneErrorShape(_reads_all)(client.scope, client.receive, client.send))
    assert (client.status, client.body) == (200, {})

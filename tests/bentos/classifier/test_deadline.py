"""A request that takes too long is told so, and nobody else is."""

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from bentos.classifier import deadline
from bentos.classifier.deadline import Deadline

SCOPE: Scope = {"type": "http", "method": "POST", "path": "/classify", "headers": []}
START: Message = {"type": "http.response.start", "status": 200, "headers": []}
BODY: Message = {"type": "http.response.body", "body": b"{}"}


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "LOOK_SECONDS", 0.02)


async def nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def answer_after(seconds: float, begin_first: bool = False) -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if begin_first:
            await send(START)
        await asyncio.sleep(seconds)
        if not begin_first:
            await send(START)
        await send(BODY)

    return app


def asked(app: Deadline) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(dict(SCOPE), nothing, send))
    return sent


def test_who_is_in_time_is_left_alone() -> None:
    assert asked(Deadline(answer_after(0), 0.05)) == [START, BODY]
    assert asked(Deadline(answer_after(0.1), 5)) == [START, BODY]


def test_who_is_late_gets_504_in_the_one_shape() -> None:
    start, body = asked(Deadline(answer_after(5), 0.05))
    assert start["status"] == 504
    error = json.loads(body["body"])["error"]
    assert error["code"] == "timeout"
    assert "within 0.05 s" in error["message"]
    assert (b"retry-after", b"1") in start["headers"]


def test_an_answer_that_has_begun_is_not_begun_again() -> None:
    assert asked(Deadline(answer_after(5, begin_first=True), 0.05)) == [START]


def test_only_the_late_one_is_stopped_and_the_looking_ends() -> None:
    async def both() -> tuple[list[Message], list[Message], bool]:
        times = iter((5.0, 0.0))

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await answer_after(next(times))(scope, receive, send)

        guard, slow, quick = Deadline(app, 0.05), list[Message](), list[Message]()

        async def to_slow(message: Message) -> None:
            slow.append(message)

        async def to_quick(message: Message) -> None:
            quick.append(message)

        await asyncio.gather(guard(dict(SCOPE), nothing, to_slow), guard(dict(SCOPE), nothing, to_quick))
        await asyncio.sleep(0.1)
        return slow, quick, guard._looking

    slow, quick, looking = asyncio.run(both())
    assert slow[0]["status"] == 504
    assert quick == [START, BODY]
    assert not looking


def test_a_cancellation_from_outside_stays_one() -> None:
    async def cancelled() -> None:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        task = asyncio.ensure_future(Deadline(answer_after(5), 60)(dict(SCOPE), nothing, send))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sent == []

    asyncio.run(cancelled())

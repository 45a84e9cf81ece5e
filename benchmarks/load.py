"""A closed loop of HTTP requests against one address: so many connections, each sends its next request when the last
one is answered. Its parser knows what these services answer, and no more: that keeps the client out of the figures.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

HEAD_END = b"\r\n\r\n"
BOUNDARY = b"flywheel-load"


@dataclass
class Answers:
    """What came back. A connection that was cut, or refused, counts as one failed request."""

    seconds: list[float] = field(default_factory=list)  # of the answers with status 200, in order of arrival
    at: list[float] = field(default_factory=list)  # when each arrived, on the clock of `time.perf_counter`
    bodies: list[tuple[int, bytes]] = field(default_factory=list)  # which file, and the answer; where they are kept
    failed: int = 0
    failures: dict[str, int] = field(default_factory=dict)  # why
    wall: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.wall

    def quantile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


@dataclass(frozen=True)
class Target:
    """Where requests go, and what they are."""

    url: str
    requests: tuple[bytes, ...]  # whole, head and body

    @classmethod
    def of_files(
        cls,
        url: str,
        files: Sequence[bytes],
        *,
        multipart: bool = False,
        path: str = "/classify",
        headers: Mapping[str, str] | None = None,
    ) -> "Target":
        """One file a request, as the body or in a form."""
        sent = [_form("image", [file]) if multipart else (b"image/jpeg", file) for file in files]
        return cls(url, tuple(_request(url, path, *each, headers or {}) for each in sent))

    @classmethod
    def of_batches(
        cls, url: str, batches: Sequence[Sequence[bytes]], *, path: str, headers: Mapping[str, str] | None = None
    ) -> "Target":
        """Several files a request, in a form."""
        return cls(url, tuple(_request(url, path, *_form("images", files), headers or {}) for files in batches))


def _form(field_name: str, files: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Content type and body."""
    head = b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="a.jpg"\r\n' % (BOUNDARY, field_name.encode())
    parts = [head + b"Content-Type: image/jpeg\r\n\r\n" + file + b"\r\n" for file in files]
    return b"multipart/form-data; boundary=" + BOUNDARY, b"".join(parts) + b"--%s--\r\n" % BOUNDARY


def _request(url: str, path: str, kind: bytes, body: bytes, headers: Mapping[str, str]) -> bytes:
    host = urlsplit(url).netloc.encode()
    lines = [b"POST %s HTTP/1.1" % path.encode(), b"Host: " + host, b"Content-Type: " + kind]
    lines += [f"{name}: {value}".encode() for name, value in headers.items()]
    return b"\r\n".join((*lines, b"Content-Length: %d" % len(body))) + HEAD_END + body


def run_load(target: Target, connections: int, seconds: float, *, keep_bodies: bool = False) -> Answers:
    """Load for so long; every connection ends after its last answer."""
    try:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_load(target, connections, seconds, keep_bodies))
    except ImportError:
        return asyncio.run(_load(target, connections, seconds, keep_bodies))


async def _load(target: Target, connections: int, seconds: float, keep_bodies: bool) -> Answers:
    answers = Answers()
    began = time.perf_counter()
    until = began + seconds
    await asyncio.gather(
        *(_connection(target, first, connections, until, answers, keep_bodies) for first in range(connections))
    )
    answers.wall = time.perf_counter() - began
    return answers


async def _connection(target: Target, first: int, step: int, until: float, answers: Answers, keep_bodies: bool) -> None:
    address = urlsplit(target.url)
    place, streams = first, None
    while time.perf_counter() < until:
        number = place % len(target.requests)
        place += step
        sent = time.perf_counter()
        try:
            streams = streams or await asyncio.open_connection(address.hostname, address.port)
            streams[1].write(target.requests[number])
            status, body = await _answer(streams[0])
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            _fail(answers, type(error).__name__)
            if streams:
                streams[1].close()
            streams = None
            await asyncio.sleep(0.05)
            continue
        if status != 200:
            _fail(answers, f"HTTP {status}")
            continue
        now = time.perf_counter()
        answers.seconds.append(now - sent)
        answers.at.append(now)
        if keep_bodies:
            answers.bodies.append((number, body))
    if streams:
        streams[1].close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(HEAD_END)
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(head[9:12]), await reader.readexactly(int(value))
    raise ValueError("an answer with its length expected")


def _fail(answers: Answers, why: str) -> None:
    answers.failed += 1
    answers.failures[why] = answers.failures.get(why, 0) + 1

"""A host that answers is told from one that does not, in bounded time."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flywheel.hosts import why_silent


@pytest.fixture
def host() -> Iterator[str]:
    """Answers with the status that the path names."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(int(self.path.strip("/")))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("status", "said"), [(200, ""), (404, ""), (401, ""), (500, ""), (503, "status 503")])
def test_any_status_is_an_answer_but_that_of_a_host_behind_which_there_is_none(
    host: str, status: int, said: str
) -> None:
    assert why_silent(f"{host}/{status}", 5) == said


def test_a_silent_host_is_given_up_after_the_seconds_that_were_asked() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        assert why_silent(f"http://127.0.0.1:{silent.getsockname()[1]}", 0.5) != ""
    assert 0.4 < time.monotonic() - began < 5


def test_no_host_and_no_address_have_their_reason() -> None:
    assert "refused" in why_silent("http://127.0.0.1:9", 5)
    assert why_silent("nonsense", 5) != ""

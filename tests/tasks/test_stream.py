"""Traffic of a rehearsal: real images that no model learned from, in a world that moves, sent to a real server."""

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from flywheel.data.versions import build_version
from flywheel.settings import DataParameters
from tasks import stream
from tasks.stream import SCENARIOS, Stream, StreamError


class Service(BaseHTTPRequestHandler):
    """Answers every image with one class, and keeps what it was sent."""

    seen: ClassVar[list[tuple[str, bytes]]] = []
    numbers = count()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, body))
        answer = b'{"prediction_id": "p", "label": "zero", "model_id": "model-a"}'
        self.send_response(500 if next(self.numbers) % 10 == 9 and self.path == "/classify" else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_GET(self) -> None:
        answer = b'{"images": [{"prediction_id": "p"}, {"prediction_id": "of somebody else"}], "open": 2}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url():
    Service.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def version(project, monkeypatch):
    """With images that a subset left over."""
    monkeypatch.setattr(stream, "FEWEST_LEFT_OVER", 70)
    data = project.data
    return build_version(data.index, (), DataParameters(source="photos", subset=30), project.paths)


def test_without_images_that_are_left_over_there_is_no_traffic(project, url):
    with pytest.raises(StreamError, match="on a SUBSET of its source"):
        Stream(project.version, url, 10, 0)


def test_the_world_moves_and_what_failed_is_counted(version, url):
    with Stream(version, url, 400, 0) as sent:
        sent.wait_for(40, 30)
        sent.world = SCENARIOS["camera"]
        sent.wait_for(80, 30)
        taken = sent.label([each for each in sent.sent if each.prediction_id][:10], "ada")
        asked = sent.asked()
    assert taken == 10
    assert asked
    assert {each.prediction_id for each in asked} == {"p"}
    assert {each.moved for each in sent.sent} == {False, True}
    assert 0 < len(sent.failed) < len(sent.sent) / 5
    assert {each.label for each in sent.sent} <= set(version.classes)
    images = [body for path, body in Service.seen if path == "/classify"]
    assert np.asarray(Image.open(io.BytesIO(images[0]))).shape == (version.size, version.size, 3)
    assert sum(path == "/feedback" for path, _ in Service.seen) == 10


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda each: each.name)
def test_a_scenario_changes_what_it_says(scenario):
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    changed = scenario.change(images, [str(number) for number in range(6)])
    assert (changed.shape, changed.dtype) == (images.shape, np.uint8)
    assert np.array_equal(changed, images) == (scenario.name == "class")

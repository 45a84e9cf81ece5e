"""The client tells what the service said, or that nobody answered."""

import http.server
import json
import threading

import pytest

from tasks.client import ServedAnswer, ServiceError, classify

ANSWER = {"prediction_id": "p", "model_id": "m", "top_k": [{"label": "cat", "confidence": 0.9}]}
REFUSAL = {"error": {"code": "no_key", "message": "An API key is asked for.", "hint": "Send one."}}


@pytest.fixture
def service():
    """A server of this process that answers what it is given, and remembers the headers."""
    said = {"status": 200, "body": json.dumps(ANSWER), "headers": {}}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            said["headers"] = dict(self.headers)
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(said["status"])
            self.end_headers()
            self.wfile.write(said["body"].encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    said["url"] = f"http://127.0.0.1:{server.server_address[1]}"
    yield said
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def image(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"bytes")
    return tmp_path / "a.jpg"


def test_an_answer_is_read_and_the_key_is_sent(service, image, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_API_KEY", "a-key")
    assert classify(image, service["url"] + "/", 5) == ServedAnswer("p", "m", (("cat", 0.9),))
    assert service["headers"]["Authorization"] == "Bearer a-key"


def test_a_refusal_is_told_in_the_services_words(service, image):
    service.update(status=401, body=json.dumps(REFUSAL))
    with pytest.raises(ServiceError, match=r"HTTP 401\. An API key is asked for\. Send one\."):
        classify(image, service["url"], 5)


@pytest.mark.parametrize("body", ["<html>", "[]", '{"hello": 1}'])
def test_another_service_is_told_from_this_one(service, image, body):
    service.update(body=body)
    with pytest.raises(ServiceError, match="HTTP 200"):
        classify(image, service["url"], 5)


def test_nobody_there_and_no_file_are_one_sentence(image, tmp_path):
    with pytest.raises(ServiceError, match="make serve"):
        classify(image, "http://127.0.0.1:9", 5)
    with pytest.raises(ServiceError, match="can't be read"):
        classify(tmp_path / "none.jpg", "http://127.0.0.1:9", 5)

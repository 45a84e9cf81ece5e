"""Bad input for a really served Bento with keys: each kind gets its own status and code, soon, and nothing is left."""

import base64
import contextlib
import json
import select
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from tests.bentos.classifier.service_process import Service, served_service
from tests.bentos.classifier.test_app import JPEG, assert_one_shape, encoded, part, png_that_claims
from tests.bentos.classifier.test_pixels import npy

SECRET, READER, ROOT = "s3cret-of-alice-0123", "s3cret-of-bob-012345", "s3cret-of-root-01234"
KEYS = f"alice:predict:{SECRET} bob:feedback:{READER} root:admin:{ROOT}"
BEARER = {"Authorization": f"Bearer {SECRET}"}
LONGEST = 8  # seconds that a request may take
SOON = 5.0  # seconds; alone on a machine none takes half of one
MEGABYTE = 1024**2
LARGEST_BODY = 32 * MEGABYTE
BUFFERED = 12 * MEGABYTE  # by the system, on its way
MOST_GROWTH = 300 * MEGABYTE  # a decoded bomb alone would be four times that
MULTIPART = "multipart/form-data; boundary=b"
NPY = "application/x-npy"


@pytest.fixture(scope="module")
def service(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {
        "FLYWHEEL_SERVICE_WORKERS": "1",
        "FLYWHEEL_SERVICE_KEYS": KEYS,
        "FLYWHEEL_SERVICE_TIMEOUT": str(LONGEST),
    }
    home = tmp_path_factory.mktemp("served")
    log = {"FLYWHEEL_SERVICE_LOG": "true", "FLYWHEEL_SERVICE_FOLLOW": "false", "FLYWHEEL_HOME": str(home)}
    with served_service(models / "model-0123456789ab", home, settings | log) as found:
        yield found


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.address, headers=BEARER, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left(service: Service, client: httpx.Client) -> Iterator[None]:
    """After all of them: the same worker answers, it did not grow, and its log tells of no failure and of no key."""
    (worker,) = service.workers
    assert_it_answers(client)
    peak = _peak(worker)
    yield
    assert_it_answers(client)
    assert service.workers == [worker]
    assert _peak(worker) - peak < MOST_GROWTH
    for secret in (SECRET, READER, ROOT):
        assert secret not in service.log
    assert "Traceback" not in service.log


def assert_it_answers(client: httpx.Client) -> None:
    assert client.post("/classify", files={"image": JPEG}).status_code == 200


def _peak(process: psutil.Process) -> int:
    """The most memory that it ever had, in bytes."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        return int(process.memory_info().rss)
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def chunked_bomb(kind: bytes, head: bytes) -> bytes:
    """A PNG of 5 × 5 pixels with a text of 200 MB, compressed to 200 KB."""
    packed = head + zlib.compress(b" " * 200_000_000)
    chunk = struct.pack(">I", len(packed)) + kind + packed + struct.pack(">I", zlib.crc32(kind + packed))
    whole = png_that_claims(5, 5)
    return whole[:33] + chunk + whole[33:]


def form(field: str, content: bytes, count: int = 1) -> bytes:
    return count * part(field, content) + b"--b--\r\n"


def coded(content: bytes) -> bytes:
    return json.dumps({"image": base64.b64encode(content).decode()}).encode()


def npy_header(header: str, pixels: bytes = b"") -> bytes:
    text = header.encode("latin-1")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + pixels


ITXT, ZTXT = chunked_bomb(b"iTXt", b"Comment\0\1\0\0\0"), chunked_bomb(b"zTXt", b"Comment\0\0")
GIF_SCREEN = b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + b"\x80\0\0" + b"\0" * 6  # two colours
GIF_BOMB = GIF_SCREEN + b"," + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\x02\x02\x44\x01\0;"
UNREADABLE, NO_IMAGE, TOO_MANY = (422, "undecodable_image"), (415, "not_an_image"), (413, "too_many_pixels")
NO_TYPE, MISSING, NO_FORM = (415, "unsupported_media_type"), (422, "missing_field"), (400, "malformed_multipart")

FILES: dict[str, tuple[bytes, tuple[int, str]]] = {  # one file, whichever way it comes
    "truncated": (JPEG[: len(JPEG) // 2], UNREADABLE),
    "cut in the header": (JPEG[:30], UNREADABLE),
    "truncated png": (encoded("PNG")[:-200], UNREADABLE),
    "empty": (b"", (400, "empty_image")),
    "text": (b"hello, I am no image", NO_IMAGE),
    "html": (b"<html><body>", NO_IMAGE),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg' onload='x()'/>", NO_IMAGE),
    "zip": (b"PK\x03\x04" + b"\0" * 100, NO_IMAGE),
    "pickle": (b"\x80\x04cos\nsystem\n.", NO_IMAGE),
    "zeros": (b"\0" * 10_000, NO_IMAGE),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", NO_IMAGE),
    "bomb 20,000 x 20,000": (png_that_claims(20_000, 20_000), TOO_MANY),
    "bomb 30,000 x 30,000": (png_that_claims(30_000, 30_000), TOO_MANY),
    "bomb 12,000 x 10,000": (png_that_claims(12_000, 10_000), TOO_MANY),
    "gif of 60,000 x 60,000": (GIF_BOMB, TOO_MANY),
    "iTXt bomb": (ITXT, UNREADABLE),
    "zTXt bomb": (ZTXT, UNREADABLE),
    "no pixels where some are claimed": (png_that_claims(500, 500), UNREADABLE),
}
BODIES: dict[str, tuple[str, str, bytes, tuple[int, str]]] = {
    "wrong field": ("/classify", MULTIPART, form("picture", JPEG), MISSING),
    "a url for a file": (
        "/classify",
        MULTIPART,
        part("image", b"http://127.0.0.1/", False) + b"--b--",
        (422, "not_a_file"),
    ),
    "two files": ("/classify", MULTIPART, form("image", JPEG, 2), (413, "too_many_images")),
    "no boundary": ("/classify", "multipart/form-data", form("image", JPEG), NO_FORM),
    "malformed multipart": ("/classify", MULTIPART, b"--x\r\nnonsense", NO_FORM),
    "no parts": ("/classify", MULTIPART, b"--b--\r\n", MISSING),
    "pickle's type": ("/classify", "application/vnd.bentoml+pickle", b"\x80\x04.", NO_TYPE),
    "no type": ("/classify", "", JPEG, NO_TYPE),
    "bad json": ("/classify", "application/json", b"{", (422, "malformed_json")),
    "json list": ("/classify", "application/json", b"[]", MISSING),
    "json without it": ("/classify", "application/json", b"{}", MISSING),
    "deep json": ("/classify", "application/json", b"[" * 500_000, (422, "malformed_json")),
    "json url": ("/classify", "application/json", b'{"image": "http://127.0.0.1/a.jpg"}', (422, "malformed_base64")),
    "10,000 images": ("/classify_batch", MULTIPART, form("images", JPEG, 10_000), (413, "too_many_images")),
    "65 images": ("/classify_batch", MULTIPART, form("images", JPEG, 65), (413, "too_many_images")),
    "batch, wrong field": ("/classify_batch", MULTIPART, form("image", JPEG), MISSING),
    "batch, no boundary": ("/classify_batch", "multipart/form-data", form("images", JPEG), NO_FORM),
    "batch, no parts": ("/classify_batch", MULTIPART, b"--b--\r\n", MISSING),
    "batch, pictures together": (
        "/classify_batch",
        MULTIPART,
        form("images", png_that_claims(5000, 6000), 5),
        TOO_MANY,
    ),
    "batch, json": ("/classify_batch", "application/json", b"{}", NO_TYPE),
    "batch, raw picture": ("/classify_batch", "image/jpeg", JPEG, NO_TYPE),
    "batch, pickle's type": ("/classify_batch", "application/vnd.bentoml+pickle", b"\x80\x04.", NO_TYPE),
    "npy, 10,000 images": (
        "/classify_batch",
        NPY,
        npy(np.zeros((10_000, 8, 8, 3), np.uint8)),
        (413, "too_many_images"),
    ),
    "npy of objects": (
        "/classify_batch",
        NPY,
        npy(np.array([{"a": 1}], object), allow_pickle=True),
        (422, "wrong_dtype"),
    ),
    "npy of a terabyte": (
        "/classify_batch",
        NPY,
        npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 600000, 600000, 3)}"),
        TOO_MANY,
    ),
    "npy of numbers without end": (
        "/classify_batch",
        NPY,
        npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (1, %s, 9, 3)}" % ("9" * 4000)),
        TOO_MANY,
    ),
    "npy of minus signs": ("/classify_batch", NPY, npy_header("-" * 4000 + "1"), (422, "malformed_npy")),
    "npy of brackets": ("/classify_batch", NPY, npy_header("(" * 4000), (422, "malformed_npy")),
    "npy, a structure": (
        "/classify_batch",
        NPY,
        npy_header("{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (1, 2, 2, 3)}", b"\0" * 12),
        (422, "wrong_dtype"),
    ),
    "npy, empty": ("/classify_batch", NPY, b"", (415, "not_npy")),
    "feedback, no json": ("/feedback", "text/plain", b"cat", (403, "missing_scope")),
}


def posted(client: httpx.Client, path: str, kind: str, body: bytes) -> httpx.Response:
    started = time.monotonic()
    response = client.post(path, content=body, headers={"content-type": kind} if kind else {})
    assert time.monotonic() - started < SOON
    return response


def assert_refused(response: httpx.Response, wanted: tuple[int, str]) -> None:
    assert response.headers["content-type"] == "application/json"
    assert_one_shape(response.json())
    assert (response.status_code, response.json()["error"]["code"]) == wanted
    assert len(response.content) < 10_000


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_as_the_body(client: httpx.Client, name: str) -> None:
    body, wanted = FILES[name]
    assert_refused(posted(client, "/classify", "image/jpeg", body), wanted)


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_in_a_form(client: httpx.Client, name: str) -> None:
    body, wanted = FILES[name]
    assert_refused(posted(client, "/classify", MULTIPART, form("image", body)), wanted)


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_in_json(client: httpx.Client, name: str) -> None:
    body, wanted = FILES[name]
    assert_refused(posted(client, "/classify", "application/json", coded(body)), wanted)


def test_each_bad_file_of_a_batch_fails_alone_and_the_good_ones_are_answered(client: httpx.Client) -> None:
    small = {name: each for name, each in FILES.items() if "bomb" not in name and "60,000" not in name}
    body = b"".join(part("images", each) + part("images", JPEG) for each, _ in small.values()) + b"--b--\r\n"
    answer = posted(client, "/classify_batch", MULTIPART, body).json()
    assert answer["failed"] == len(small)
    bad, good = answer["results"][::2], answer["results"][1::2]
    assert [each["error"]["code"] for each in bad] == [code for _, (_, code) in small.values()]
    assert len({each["confidence"] for each in good}) == 1


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_request(client: httpx.Client, name: str) -> None:
    path, kind, body, wanted = BODIES[name]
    assert_refused(posted(client, path, kind, body), wanted)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/classify", "image/jpeg"),
        ("/classify", MULTIPART),
        ("/classify", "application/json"),
        ("/classify_batch", NPY),
    ],
)
@pytest.mark.parametrize("declared", [True, False], ids=["length", "no length"])
def test_fifty_megabytes_are_stopped_at_the_limit(service: Service, path: str, kind: str, declared: bool) -> None:
    """On a bare socket: what goes out until the answer comes is what is asked about."""
    status, body, sent = _send_megabytes(service, path, kind, 50, declared)
    assert (status, body["error"]["code"]) == (413, "body_too_large")
    assert_one_shape(body)
    assert sent < BUFFERED + (0 if declared else LARGEST_BODY)


def _send_megabytes(service: Service, path: str, kind: str, megabytes: int, declared: bool) -> tuple[int, Any, int]:
    """Status and body of the answer, and the bytes that went out before it came."""
    length = f"Content-Length: {megabytes * MEGABYTE}" if declared else "Transfer-Encoding: chunked"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {SECRET}\r\nContent-Type: {kind}\r\n{length}\r\n\r\n"
    begin = form("images", b"").partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if kind == MULTIPART else b""
    piece = b"\0" * (MEGABYTE // 4)
    frame = piece if declared else b"%x\r\n%s\r\n" % (len(piece), piece)
    sent = 0
    with socket.create_connection(("127.0.0.1", service.port), timeout=SOON) as connection:
        connection.sendall(
            head.encode() + (begin if declared else b"%x\r\n%s\r\n" % (len(begin), begin) if begin else b"")
        )
        with contextlib.suppress(ConnectionError):
            for _ in range(4 * megabytes):
                if select.select([connection], [], [], 0)[0]:
                    break
                connection.sendall(frame)
                sent += len(piece)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while block := connection.recv(65536):
                answer += block
    head_bytes, _, body = answer.partition(b"\r\n\r\n")
    return int(head_bytes.split()[1]), json.loads(body), sent


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/classify", 405),
        ("PUT", "/classify_batch", 405),
        ("DELETE", "/model", 405),
        ("POST", "/nothing", 404),
        ("GET", "/wp-admin/../../etc/passwd", 404),
        ("POST", "/classify/0", 404),
        ("OPTIONS", "/classify", 405),
    ],
)
def test_other_methods_and_paths(client: httpx.Client, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert_one_shape(response.json())


@pytest.mark.parametrize("top_k", ["0", "-1", "many", "1e9", "9" * 5000, "%00", "\u0663"])
def test_parameters_out_of_bounds(client: httpx.Client, top_k: str) -> None:
    response = client.post("/classify", params={"top_k": top_k}, files={"image": JPEG})
    assert_refused(response, (422, "invalid_parameter"))


@pytest.mark.parametrize(
    ("path", "keyless", "reader", "alice"),
    [
        ("/healthz", 200, 200, 200),
        ("/livez", 200, 200, 200),
        ("/readyz", 200, 200, 200),
        ("/model", 401, 403, 200),
        ("/queue", 401, 200, 403),
        ("/metrics", 401, 403, 403),
        ("/docs", 401, 200, 200),
        ("/docs.json", 401, 200, 200),
        ("/openapi.json", 401, 200, 200),
        ("/schema.json", 401, 200, 200),
        ("/nothing", 401, 404, 404),
    ],
)
def test_each_key_opens_what_its_scope_says(service: Service, path: str, keyless: int, reader: int, alice: int) -> None:
    with httpx.Client(base_url=service.address, trust_env=False) as client:
        found = [client.get(path, headers={"X-API-Key": secret}) for secret in ("", READER, SECRET)]
        assert client.get(path, headers={"X-API-Key": ROOT}).status_code in {200, 404}
    assert [each.status_code for each in found] == [keyless, reader, alice]
    for each in found:
        if each.status_code >= 400:
            assert_one_shape(each.json())


@pytest.mark.parametrize(
    "target",
    [
        "//queue",
        "/./queue",
        "/%71ueue",
        "/queue/",
        "/queue?",
        "/queue%2f",
        "/QUEUE",
        "/model/../queue",
        "http://x/queue",
        "http://x//queue",
        "/queue#/model",
        "/;/queue",
    ],
)
def test_no_spelling_of_a_path_goes_around_the_scopes(service: Service, target: str) -> None:
    """Whatever the key of another scope sends, the queue is not shown."""
    status, body = _get(service, target, SECRET)
    assert status in {403, 404, 307, 400}
    assert "images" not in body


def _get(service: Service, target: str, secret: str) -> tuple[int, str]:
    """Without the client that would clean the path up."""
    head = f"GET {target} HTTP/1.1\r\nHost: x\r\nX-API-Key: {secret}\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=SOON) as connection:
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    return int(answer.split()[1]), answer.partition("\r\n\r\n")[2]


def test_an_upload_that_never_ends_is_told_so_in_the_one_shape(service: Service) -> None:
    """By our own deadline in the place of BentoML's, whose error has another shape."""
    fields = ("Host: x", f"X-API-Key: {SECRET}", "Content-Type: image/jpeg", "Content-Length: 99")
    head = "\r\n".join(("POST /classify HTTP/1.1", *fields, "", ""))
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", service.port), timeout=3 * LONGEST) as connection:
        connection.sendall(head.encode() + b"half")
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert LONGEST <= time.monotonic() - began < LONGEST + SOON
    assert int(answer.split()[1]) == 504
    body = json.loads(answer.partition("\r\n\r\n")[2])
    assert_one_shape(body)
    assert body["error"]["code"] == "timeout"


def test_a_scanner_adds_no_series_to_the_metrics(service: Service, client: httpx.Client) -> None:
    def series() -> set[str]:
        text = client.get("/metrics", headers={"Authorization": f"Bearer {ROOT}"}).text
        return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}

    client.get("/scanned")
    client.get("/queue/0/image")
    client.request("SCAN", "/scanned")
    series()
    before = series()
    for number in range(50):
        client.get(f"/scanned/{number}")
        client.get(f"/queue/{number}/image")
        client.request("SCAN", f"/{number}")
    found = series()
    assert found == before
    assert not [line for line in found if "scanned" in line]
    assert any(line.startswith('flywheel_requests_total{route="other",status="404"}') for line in found)

"""The routes over a real tiny model: what is answered, and each kind of bad input with its own 4xx."""

import re
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from bentos.classifier.app import make_app
from bentos.classifier.ask import Ask
from bentos.classifier.batcher import MicroBatcher
from bentos.classifier.bundle import Bundle, Standing
from bentos.classifier.classifying import Classifying
from bentos.classifier.express import Express
from bentos.classifier.guard import BodyLimit
from bentos.classifier.prediction_id import PredictionIds
from bentos.classifier.predictor import Predictor
from bentos.classifier.settings import ServiceSettings
from bentos.classifier.worker import Worker
from flywheel.data.decode import decode
from flywheel.model.inference import softmax
from flywheel.runtime.running import RunningModel

SETTINGS = ServiceSettings(
    most_images=4, longest_queue=4, largest_body=200_000, most_pixels=1_000_000, most_pixels_together=1_500_000
)


@pytest.fixture(scope="module")
def client(bundle: Bundle) -> Iterator[TestClient]:
    predictor = Predictor(Standing(bundle), SETTINGS.most_pixels)
    batcher = MicroBatcher(predictor.predict, SETTINGS.largest_batch, SETTINGS.longest_queue)
    worker = Worker(predictor, batcher, PredictionIds())
    app = BodyLimit(entrance(worker), SETTINGS.largest_body, SETTINGS.most_held)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
    batcher.close()


def entrance(worker: Worker) -> Express:
    """The routes, with the short way to them for a POST without a query."""
    classifying = Classifying(lambda: worker, SETTINGS)
    return Express(make_app(classifying), classifying)


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (20, 12), **options: Any) -> bytes:
    pixels = np.random.default_rng(7).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


def png_that_claims(width: int, height: int, text: bytes = b"") -> bytes:
    """A whole PNG header, checksum included, and a compressed text in front of next to no pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    comment = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(text)) if text else b""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + comment
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


JPEG = encoded("JPEG")
MULTIPART = "multipart/form-data; boundary=b"


def expected(classifier: RunningModel, file: bytes) -> dict[str, float]:
    probabilities = softmax(classifier.classify([decode(file)]).logits)[0]
    return dict(zip(classifier.model.classes, probabilities.tolist(), strict=True))


def test_the_answer_is_the_models_own_for_multipart_and_raw_bodies(
    client: TestClient, classifier: RunningModel
) -> None:
    wanted = expected(classifier, JPEG)
    multipart = client.post("/classify", files={"image": ("a.jpg", JPEG)}, params={"top_k": 99})
    raw = client.post("/classify", content=JPEG, headers={"content-type": "image/jpeg"}, params={"top_k": 99})
    for response in (multipart, raw):
        answer = response.json()
        assert response.status_code == 200
        assert {score["label"]: score["confidence"] for score in answer["top_k"]} == pytest.approx(wanted, abs=1e-5)
        assert answer["label"] == answer["top_k"][0]["label"] == max(wanted, key=wanted.__getitem__)
        assert answer["confidence"] == answer["top_k"][0]["confidence"]
        assert answer["model_id"] == classifier.model.id
        assert UUID(answer["prediction_id"]).version == 7
        assert 0 < answer["latency_ms"] < 60_000
        assert set(answer) == {"prediction_id", "label", "confidence", "top_k", "model_id", "latency_ms"}


def test_the_logits_of_all_classes_come_where_they_are_asked_for(client: TestClient, classifier: RunningModel) -> None:
    (row,) = classifier.classify([decode(JPEG)]).logits
    wanted = dict(zip(classifier.model.classes, row.tolist(), strict=True))
    asked = {"logits": "true", "top_k": "1"}
    alone = client.post("/classify", files={"image": JPEG}, params=asked).json()
    (together,) = client.post("/classify_batch", files={"images": JPEG}, params=asked).json()["results"]
    for answer in (alone, together):
        assert answer["logits"] == pytest.approx(wanted, abs=1e-5)
        assert len(answer["top_k"]) == 1
        assert answer["label"] == max(wanted, key=wanted.__getitem__)


@pytest.mark.parametrize(
    "file",
    [
        encoded("PNG", "RGBA"),
        encoded("PNG", "L"),
        encoded("PNG", "P"),
        encoded("PNG", "1"),
        encoded("PNG", "I;16"),
        encoded("JPEG", "CMYK"),
        encoded("WEBP"),
        encoded("GIF", "P"),
        encoded("TIFF"),
        encoded("PNG", size=(1, 1)),
        encoded("PNG", size=(1, 300)),
    ],
    ids=["rgba", "gray", "palette", "bits", "16-bit", "cmyk", "webp", "gif", "tiff", "pixel", "line"],
)
def test_any_mode_and_size_goes_through_the_one_decode(
    client: TestClient, classifier: RunningModel, file: bytes
) -> None:
    answer = client.post("/classify", files={"image": file}).json()
    assert answer["confidence"] == pytest.approx(max(expected(classifier, file).values()), abs=1e-5)


def part(name: str, content: bytes, file: bool = True) -> bytes:
    filename = b'; filename="f"' if file else b""
    return b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (name.encode(), filename, content)


BAD_INPUTS = {
    "truncated": ("image/jpeg", JPEG[: len(JPEG) // 2], 422, "undecodable_image"),
    "cut in the header": ("image/jpeg", JPEG[:30], 422, "undecodable_image"),
    "empty raw": ("image/jpeg", b"", 400, "empty_image"),
    "empty file": (MULTIPART, part("image", b"") + b"--b--", 400, "empty_image"),
    "text named .jpg": ("image/jpeg", b"hello, I am no image", 415, "not_an_image"),
    "postscript": ("image/jpeg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "not_an_image"),
    "xml": ("application/xml", b"<image/>", 415, "unsupported_media_type"),
    "json without an image": ("application/json", b'{"picture": "x"}', 422, "missing_field"),
    "json of another kind": ("application/json", b"[1]", 422, "missing_field"),
    "deep json": ("application/json", b"[" * 90_000, 422, "malformed_json"),
    "broken json": ("application/json", b"{", 422, "malformed_json"),
    "json with no base64": ("application/json", b'{"image": "\u00e9!"}', 422, "malformed_base64"),
    "json with an empty image": ("application/json", b'{"image": ""}', 400, "empty_image"),
    "json with text": ("application/json", b'{"image": "aGVsbG8="}', 415, "not_an_image"),
    "pickle": ("application/vnd.bentoml+pickle", b"\x80\x04.", 415, "unsupported_media_type"),
    "no content type": ("", JPEG, 415, "unsupported_media_type"),
    "wrong field": (MULTIPART, part("picture", JPEG) + b"--b--", 422, "missing_field"),
    "string for a file": (MULTIPART, part("image", b"http://127.0.0.1/", file=False) + b"--b--", 422, "not_a_file"),
    "two files": (MULTIPART, 2 * part("image", JPEG) + b"--b--", 413, "too_many_images"),
    "no boundary": ("multipart/form-data", part("image", JPEG) + b"--b--", 400, "malformed_multipart"),
    "malformed multipart": (MULTIPART, b"--x\r\nnonsense", 400, "malformed_multipart"),
    "no parts": (MULTIPART, b"--b--\r\n", 422, "missing_field"),
    "long text field": (MULTIPART, part("image", b"x" * 150_000, file=False) + b"--b--", 422, "not_a_file"),
    "many text fields": (MULTIPART, 100 * part("a", b"", file=False) + b"--b--", 400, "malformed_multipart"),
    "bomb": ("image/png", png_that_claims(30_000, 30_000), 413, "too_many_pixels"),
    "quiet bomb": ("image/png", png_that_claims(1_001, 1_000), 413, "too_many_pixels"),
    "text bomb": ("image/png", png_that_claims(5, 5, b" " * 100_000_000), 422, "undecodable_image"),
    "claims what is not there": ("image/png", png_that_claims(500, 500), 422, "undecodable_image"),
    "large body": ("image/jpeg", JPEG + b"\0" * 200_000, 413, "body_too_large"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_gets_its_own_4xx_in_the_one_shape(client: TestClient, name: str) -> None:
    kind, body, status, code = BAD_INPUTS[name]
    response = client.post("/classify", content=body, headers={"content-type": kind} if kind else {})
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert_one_shape(response.json())


def assert_one_shape(body: dict[str, Any]) -> None:
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "hint"}
    assert all(isinstance(text, str) and text for text in body["error"].values())


def test_a_body_that_declares_no_length_is_stopped_at_the_limit(client: TestClient) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 50_000
            yield b"\0" * 50_000

    response = client.post("/classify", content=endless(), headers={"content-type": "image/jpeg"})
    assert response.status_code == 413
    assert_one_shape(response.json())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/classify", 405), ("PUT", "/classify_batch", 405), ("GET", "/nothing", 404), ("DELETE", "/a/b/c", 404)],
)
def test_the_frameworks_own_refusals_have_the_one_shape(
    client: TestClient, method: str, path: str, status: int
) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert_one_shape(response.json())


@pytest.mark.parametrize("top_k", ["0", "-1", "many", "1e9"])
def test_a_parameter_out_of_bounds_has_the_one_shape(client: TestClient, top_k: str) -> None:
    response = client.post("/classify", params={"top_k": top_k}, files={"image": JPEG})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_parameter")
    assert_one_shape(response.json())


def test_a_batch_is_answered_in_order_and_a_bad_image_fails_alone(client: TestClient, classifier: RunningModel) -> None:
    png = encoded("PNG", "RGBA")
    files = [("images", JPEG), ("images", b"no image"), ("images", png)]
    body = client.post("/classify_batch", files=files).json()
    first, bad, third = body["results"]
    assert body["failed"] == 1
    assert_one_shape(bad)
    assert first["confidence"] == pytest.approx(max(expected(classifier, JPEG).values()), abs=1e-5)
    assert third["confidence"] == pytest.approx(max(expected(classifier, png).values()), abs=1e-5)
    assert first["prediction_id"] < third["prediction_id"]


def test_more_images_than_stated_are_refused_with_the_limit(client: TestClient) -> None:
    response = client.post("/classify_batch", files=[("images", JPEG)] * 5)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "too_many_images")
    assert "4" in response.json()["error"]["hint"]


def test_a_batch_of_more_pixels_together_than_stated_is_refused(client: TestClient) -> None:
    response = client.post("/classify_batch", files=[("images", png_that_claims(1_000, 800))] * 2)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "too_many_pixels")
    assert "1,600,000" in response.json()["error"]["message"]


def test_a_batch_that_is_no_form_is_refused(client: TestClient) -> None:
    response = client.post("/classify_batch", content=JPEG, headers={"content-type": "image/jpeg"})
    assert (response.status_code, response.json()["error"]["code"]) == (415, "unsupported_media_type")


BOTH_WAYS = pytest.mark.parametrize("query", [{}, {"top_k": 2}], ids=["express", "by the framework"])


@BOTH_WAYS
def test_a_full_queue_answers_503_with_retry_after(bundle: Bundle, query: dict[str, Any]) -> None:
    predictor = Predictor(Standing(bundle), SETTINGS.most_pixels)
    batcher = MicroBatcher(predictor.predict, largest_batch=4, longest_queue=1)
    worker = Worker(predictor, batcher, PredictionIds())
    with TestClient(entrance(worker)) as client:
        response = client.post("/classify_batch", files=[("images", JPEG)] * 2, params=query)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["error"]["code"] == "overloaded"


@BOTH_WAYS
def test_a_failure_of_the_model_is_a_500_that_tells_nothing_of_the_inside(
    bundle: Bundle, query: dict[str, Any]
) -> None:
    def broken(asks: list[Ask]) -> list[Any]:
        raise MemoryError("secret of the inside")

    worker = Worker(Predictor(Standing(bundle), 1), MicroBatcher(broken, 4, 4), PredictionIds())
    with TestClient(entrance(worker), raise_server_exceptions=False) as client:
        response = client.post("/classify", files={"image": JPEG}, params=query)
    assert response.status_code == 500
    assert_one_shape(response.json())
    assert "secret" not in response.text


def test_the_model_route_names_what_is_served(client: TestClient, classifier: RunningModel) -> None:
    answer = client.get("/model").json()
    assert answer["model_id"] == classifier.model.id
    assert answer["classes"] == list(classifier.model.classes)
    assert answer["input_size"] == classifier.model.preprocessing.size
    assert answer["identities"] == {"evaluation": "eval-1"}


def test_the_front_door_leads_to_the_documentation(client: TestClient) -> None:
    assert client.get("/", follow_redirects=False).headers["location"] == "/docs"
    assert client.get("/").status_code == 200


def test_the_openapi_document_states_bodies_limits_and_the_error_shape(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    classify = document["paths"]["/classify"]["post"]
    raw = {"image/jpeg", "image/png", "image/webp"}
    assert set(classify["requestBody"]["content"]) == {"multipart/form-data", "application/json", *raw}
    refusals = {status for status, answer in classify["responses"].items() if "ErrorAnswer" in str(answer)}
    assert refusals == {"400", "401", "403", "413", "415", "422", "429", "503"}
    assert "1,000,000 pixels" in document["info"]["description"]


@BOTH_WAYS
@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/classify", b"", "image/jpeg"),
        ("/classify", JPEG[:40], "image/jpeg"),
        ("/classify", JPEG, "text/plain"),
        ("/classify", b"{", "application/json"),
        ("/classify", b"x", "multipart/form-data; boundary=b"),
        ("/classify_batch", b"", "application/x-npy"),
        ("/classify_batch", JPEG, "image/jpeg"),
    ],
)
def test_a_refusal_is_the_same_both_ways(
    client: TestClient, path: str, body: bytes, kind: str, query: dict[str, Any]
) -> None:
    headers = {"content-type": kind}
    other = client.post(path, content=body, headers=headers, params={"logits": "false"})
    response = client.post(path, content=body, headers=headers, params=query)
    assert_one_shape(response.json())
    assert (response.status_code, response.json()) == (other.status_code, other.json())
    assert 400 <= response.status_code < 500


def test_the_page_of_the_routes_asks_nothing_of_another_host(client: TestClient) -> None:
    front = client.get("/", headers={"accept": "text/html"})
    assert (front.status_code, front.url.path) == (200, "/docs")
    assert "//" not in front.text, "no address but its own"
    linked = re.findall(r'(?:src|href)="([^"]+)"|url: "([^"]+)"', front.text)
    names = sorted({one or other for one, other in linked} - {"data:,"})
    assert names == ["docs/swagger-ui-bundle.js", "docs/swagger-ui.css", "openapi.json"]
    script, style, document = (client.get(str(front.url.join(name))) for name in names)
    assert {each.status_code for each in (script, style, document)} == {200}
    assert script.headers["content-type"].startswith("text/javascript")
    assert "SwaggerUIBundle" in script.text
    assert style.headers["content-type"].startswith("text/css")
    assert all(each.startswith("data:") for each in re.findall(r"url\(\s*[\"']?([^)]+)", style.text))
    assert "@import" not in style.text
    assert "/classify_batch" in document.json()["paths"]
    assert re.search(r'<a href="openapi.json">', front.text), "what is there without the script"


@pytest.mark.parametrize("name", ["marked.min.js", "..%2Fhttp_app.py", "swagger-ui.css%00", "", "a/b"])
def test_no_other_file_is_given_away(client: TestClient, name: str) -> None:
    response = client.get(f"/docs/{name}", follow_redirects=False)
    assert response.status_code in ({307} if not name else {404})
    if name:
        assert_one_shape(response.json())


def test_redoc_which_asks_a_cdn_is_not_there(client: TestClient) -> None:
    assert client.get("/redoc").status_code == 404

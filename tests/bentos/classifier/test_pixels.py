"""A batch as one array: the pixels as they are, and each kind of wrong array with its own 4xx."""

import base64
import io

import numpy as np
import pytest
from starlette.testclient import TestClient

from flywheel.model.inference import softmax
from flywheel.runtime.running import RunningModel
from tests.bentos.classifier.test_app import JPEG, SETTINGS, assert_one_shape, client, expected

__all__ = ["client"]  # the fixture


def npy(array: np.ndarray, **options: bool) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def images(count: int = 3, height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def sent(client: TestClient, body: bytes, kind: str = "application/x-npy"):
    return client.post("/classify_batch", content=body, headers={"content-type": kind}, params={"top_k": 99})


@pytest.mark.parametrize("kind", ["application/x-npy", "application/octet-stream"])
def test_pixels_are_answered_as_files_are(client: TestClient, classifier: RunningModel, kind: str) -> None:
    given = images()
    body = sent(client, npy(given), kind).json()
    wanted = softmax(classifier.classify(list(given)).logits)
    assert body["failed"] == 0
    for answer, row in zip(body["results"], wanted, strict=True):
        found = {score["label"]: score["confidence"] for score in answer["top_k"]}
        assert found == pytest.approx(dict(zip(classifier.model.classes, row.tolist(), strict=True)), abs=1e-5)


WHOLE = npy(images())
HUGE = WHOLE.replace(b"(3, 20, 30, 3)", b"(1,9999,999,3)")
BAD = {
    "floats": (npy(images().astype(np.float32)), 422, "wrong_dtype"),
    "objects": (npy(np.array([{"a": 1}], object), allow_pickle=True), 422, "wrong_dtype"),
    "one image": (npy(images()[0]), 422, "wrong_shape"),
    "four channels": (npy(np.zeros((1, 4, 4, 4), np.uint8)), 422, "wrong_shape"),
    "no image": (npy(np.zeros((0, 4, 4, 3), np.uint8)), 422, "wrong_shape"),
    "fortran order": (npy(np.asfortranarray(images())), 422, "wrong_shape"),
    "too many": (npy(images(5)), 413, "too_many_images"),
    "too large": (
        HUGE,
        413,
        "too_many_pixels",
    ),
    "cut": (WHOLE[:-1], 422, "malformed_npy"),
    "longer than said": (WHOLE + b"x", 422, "malformed_npy"),
    "header cut": (WHOLE[:60], 422, "malformed_npy"),
    "header of code": (WHOLE[:10] + b"__import__('os').system('true')".ljust(118) + WHOLE[128:], 422, "malformed_npy"),
    "a side below zero": (WHOLE.replace(b"(3, 20, 30, 3)", b"(-3,20, 30, 3)"), 422, "wrong_shape"),
    "version 9": (WHOLE[:6] + b"\x09" + WHOLE[7:], 415, "not_npy"),
    "a picture": (JPEG, 415, "not_npy"),
    "nothing": (b"", 415, "not_npy"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_array_gets_its_own_4xx(client: TestClient, name: str) -> None:
    body, status, code = BAD[name]
    response = sent(client, body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert_one_shape(response.json())


def test_an_image_may_come_as_base64_in_json(client: TestClient, classifier: RunningModel) -> None:
    answer = client.post("/classify", json={"image": base64.b64encode(JPEG).decode()}, params={"top_k": 99}).json()
    found = {score["label"]: score["confidence"] for score in answer["top_k"]}
    assert found == pytest.approx(expected(classifier, JPEG), abs=1e-5)
    assert SETTINGS.top_k == 5

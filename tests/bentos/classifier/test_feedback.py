"""True labels over the routes, and the queue of those that are asked for."""

from collections.abc import Iterator
from functools import partial

import pytest
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from bentos.classifier import feedback
from bentos.classifier.app import make_app
from bentos.classifier.batcher import MicroBatcher
from bentos.classifier.bundle import Bundle, Standing
from bentos.classifier.classifying import Classifying
from bentos.classifier.feedback import Feedbacks
from bentos.classifier.kept_images import KeptImages
from bentos.classifier.prediction_id import PredictionIds
from bentos.classifier.prediction_log import Keeping, PredictionLogger
from bentos.classifier.predictor import Predictor
from bentos.classifier.spool import Spool
from bentos.classifier.worker import Worker
from flywheel.ledger.predictions import PredictionLog, open_predictions
from flywheel.paths import Paths
from tests.bentos.classifier.test_app import JPEG, SETTINGS, assert_one_shape


@pytest.fixture
def url(tmp_path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def client(bundle: Bundle, tmp_path, url) -> Iterator[TestClient]:
    opener = partial(open_predictions, url, hasty=True)
    images = KeptImages(Paths(tmp_path), 10**6, set)
    logger = PredictionLogger(opener, Spool(tmp_path / "spool"), Keeping(images, 0.0, ask_below=1.0, most_asked=2))
    predictor = Predictor(Standing(bundle), SETTINGS.most_pixels, logger.record)
    batcher = MicroBatcher(predictor.predict, 4, 4)
    model = bundle.classifier.model
    feedbacks = Feedbacks(opener, images, model.task_id, model.classes, logger.flush)
    worker = Worker(predictor, batcher, PredictionIds(), logger, url, feedbacks)
    with TestClient(make_app(Classifying(lambda: worker, SETTINGS)), raise_server_exceptions=False) as client:
        yield client
    worker.close()


def classified(client: TestClient) -> dict[str, str]:
    found: dict[str, str] = client.post("/classify", files={"image": JPEG}).json()
    return found


def test_a_label_is_on_record_at_once_for_an_answer_of_a_moment_ago(client, url):
    answer = classified(client)
    sent = {"prediction_id": answer["prediction_id"], "label": "ship", "source": "harbour master"}
    taken = client.post("/feedback", json=sent)
    assert taken.status_code == 200
    wanted = {"prediction_id": answer["prediction_id"], "label": "ship", "predicted": answer["label"], "position": 1}
    assert taken.json() == wanted
    (label,) = open_predictions(url).labels()
    assert (label.prediction_id, label.label, label.source) == (answer["prediction_id"], "ship", "harbour master")


UNKNOWN = "0199f2a4-7c00-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"prediction_id": UNKNOWN, "label": "cat"}, 404, "unknown_prediction"),
        ({"prediction_id": "7", "label": "cat"}, 422, "invalid_parameter"),
        ({"prediction_id": UNKNOWN}, 422, "invalid_parameter"),
        ({"prediction_id": UNKNOWN, "label": 7}, 422, "invalid_parameter"),
        ({"prediction_id": UNKNOWN, "label": "x" * 5000}, 422, "invalid_parameter"),
        ([], 422, "invalid_parameter"),
        ("cat", 422, "invalid_parameter"),
    ],
)
def test_bad_feedback_gets_its_own_4xx(client, body, status, code):
    response = client.post("/feedback", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert_one_shape(response.json())


@pytest.mark.parametrize("field", ["source", "label", "prediction_id"])
def test_a_nul_character_is_refused_before_a_database_sees_it(client, url, field):
    """SQLite would keep it, Postgres would fail as if the log could not be reached."""
    sent = {"prediction_id": classified(client)["prediction_id"], "label": "ship", "source": "harbour master"}
    for text in ("\x00", sent[field] + "\x00", "\x00" + sent[field], sent[field][:1] + "\x00" + sent[field][1:]):
        response = client.post("/feedback", json={**sent, field: text})
        assert response.status_code == 422
        assert_one_shape(response.json())
    assert open_predictions(url).labels() == []
    assert client.post("/feedback", json=sent).status_code == 200, "it was the NUL"


def test_broken_json_is_a_422_in_the_one_shape(client):
    response = client.post("/feedback", content=b"{", headers={"content-type": "application/json"})
    assert response.status_code == 422
    assert_one_shape(response.json())


def test_a_class_that_the_model_has_not_is_refused_with_those_it_has(client, url):
    answer = classified(client)
    response = client.post("/feedback", json={"prediction_id": answer["prediction_id"], "label": "unicorn"})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "unknown_class")
    assert "cat, dog, ship" in response.json()["error"]["hint"]
    assert open_predictions(url).labels() == []


def test_the_queue_shows_what_is_asked_for_until_its_label_came(client):
    answers = [classified(client) for _ in range(3)]
    client.post("/feedback", json={"prediction_id": answers[2]["prediction_id"], "label": "cat"})
    queue = client.get("/queue").json()
    assert queue["open"] == 2
    assert [each["prediction_id"] for each in queue["images"]] == [each["prediction_id"] for each in answers[:2]]
    first = queue["images"][0]
    assert first["predicted"] == answers[0]["label"]
    image = client.get(first["image"])
    assert (image.content, image.headers["content-type"]) == (JPEG, "image/jpeg")
    assert image.headers["x-content-type-options"] == "nosniff"
    client.post("/feedback", json={"prediction_id": first["prediction_id"], "label": "dog"})
    assert [each["prediction_id"] for each in client.get("/queue").json()["images"]] == [answers[1]["prediction_id"]]
    assert client.get("/queue", params={"limit": 0}).status_code == 422


def test_the_image_of_a_prediction_that_was_not_kept_is_a_404(client):
    answers = [classified(client) for _ in range(3)]
    client.post("/feedback", json={"prediction_id": answers[2]["prediction_id"], "label": "cat"})
    response = client.get(f"/queue/{answers[2]['prediction_id']}/image")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "image_not_kept")
    assert client.get(f"/queue/{UNKNOWN}/image").status_code == 404
    assert client.get("/queue/..%2F..%2Fetc/image").status_code in {404, 422}


def test_without_its_log_the_service_says_so_and_takes_nothing(client, monkeypatch):
    answer = classified(client)

    def gone(*_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("gone"))

    monkeypatch.setattr(PredictionLog, "find", gone)
    monkeypatch.setattr(feedback, "WAIT_SECONDS", 0.0)
    response = client.post("/feedback", json={"prediction_id": answer["prediction_id"], "label": "cat"})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "log_unreachable")
    assert response.headers["retry-after"] == "5"


def test_a_service_that_logs_nothing_takes_no_labels(bundle):
    predictor = Predictor(Standing(bundle), SETTINGS.most_pixels)
    batcher = MicroBatcher(predictor.predict, 4, 4)
    worker = Worker(predictor, batcher, PredictionIds())
    with TestClient(make_app(Classifying(lambda: worker, SETTINGS))) as client:
        response = client.post("/feedback", json={"prediction_id": UNKNOWN, "label": "cat"})
        assert (response.status_code, response.json()["error"]["code"]) == (503, "nothing_is_logged")
        assert client.get("/model").json()["log"] is None
    worker.close()


def test_the_model_route_tells_how_the_log_stands(client, url):
    answer = classified(client)
    client.post("/feedback", json={"prediction_id": answer["prediction_id"], "label": "cat"})
    found = client.get("/model").json()
    assert found["log"] == {"where": url, "waiting": 0, "written": 1, "spooled": 0, "dropped": 0, "trouble": ""}
    assert "its own Bento" in found["follows"]

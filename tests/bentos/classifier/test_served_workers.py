"""Two workers of a really served Bento: ready together, limited together, counted together, and gone together."""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bentos.classifier.crew import PREFIX, identity
from tasks.serving import ServingError
from tests.bentos.classifier.service_process import Service, served_service
from tests.bentos.classifier.test_app import JPEG

pytestmark = pytest.mark.slow

SECRET, ROOT = "s3cret-of-alice-0123", "s3cret-of-root-01234"
SETTINGS = {
    "FLYWHEEL_SERVICE_WORKERS": "2",
    "FLYWHEEL_SERVICE_KEYS": f"alice:predict:{SECRET} root:admin:{ROOT}",
    "FLYWHEEL_SERVICE_RATE": "0.001",
    "FLYWHEEL_SERVICE_BURST": "40",
    "FLYWHEEL_SERVICE_LOG": "true",
}
REPLACED_SECONDS = 90.0  # the supervisor looks every ten, and a worker imports torch


def folders(service: Service) -> list[Path]:
    """What its workers share: named for the process that started them."""
    found = [Path(tempfile.gettempdir(), f"{PREFIX}{os.getuid()}-{identity(each.pid)}") for each in service.processes]
    return [folder for folder in found if folder.exists()]


@pytest.fixture(scope="module")
def service(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("served")
    settings = {**SETTINGS, "XDG_STATE_HOME": str(home / "state")}
    with served_service(models / "model-0123456789ab", home, settings) as found:
        (shared,) = folders(found)
        yield found
    assert not shared.exists()


def readiness(service: Service) -> tuple[int, str]:
    """Over a connection of its own, so that any worker may answer."""
    response = httpx.get(f"{service.address}/readyz", trust_env=False, timeout=10)
    return response.status_code, response.json()["error"]["message"] if response.status_code != 200 else ""


def written(service: Service) -> list[int]:
    """What `/model` tells of the log, over some connections of their own."""
    asked = [
        httpx.get(f"{service.address}/model", headers={"X-API-Key": ROOT}, trust_env=False, timeout=10)
        for _ in range(6)
    ]
    return [each.json()["log"]["written"] for each in asked]


def test_a_key_has_one_bucket_whichever_worker_it_reaches(service: Service) -> None:
    """Each request on a connection of its own: both workers take some, as the metrics of the process show."""
    found = [
        httpx.post(f"{service.address}/classify", files={"image": JPEG}, headers={"X-API-Key": SECRET}, trust_env=False)
        for _ in range(60)
    ]
    statuses = [each.status_code for each in found]
    assert statuses == [200] * 40 + [429] * 20
    assert int(found[-1].headers["retry-after"]) > 500
    time.sleep(2.0)  # each worker's numbers are refreshed every second
    text = httpx.get(f"{service.address}/metrics", headers={"X-API-Key": ROOT}, trust_env=False).text
    assert 'flywheel_requests_total{route="/classify",status="200"} 40.0' in text
    assert 'flywheel_requests_total{route="/classify",status="429"} 20.0' in text
    predicted = [line for line in text.splitlines() if line.startswith("flywheel_predictions_total{")]
    assert sum(float(line.rpartition(" ")[2]) for line in predicted) == 40
    (resident,) = [line for line in text.splitlines() if line.startswith("flywheel_workers_resident_bytes ")]
    assert float(resident.split()[1]) > 2 * 100e6
    assert written(service) == [40] * 6, "whichever worker is asked"


def test_a_killed_worker_makes_it_unready_until_another_stands(service: Service) -> None:
    assert readiness(service) == (200, "")
    first, second = service.workers
    first.kill()
    killed = time.monotonic()
    seen = set()
    while (now := readiness(service)) != (200, "") or not seen:
        seen.add(now)
        assert time.monotonic() - killed < REPLACED_SECONDS, f"{now}\n{service.log[-2000:]}"
        time.sleep(0.2)
    assert seen - {(200, "")} == {(503, "1 of 2 workers are ready.")}
    assert second in service.workers
    assert first not in service.workers
    assert len(service.workers) == 2
    for _ in range(10):
        answer = httpx.get(f"{service.address}/model", headers={"X-API-Key": ROOT}, trust_env=False)
        assert answer.status_code == 200
    text = httpx.get(f"{service.address}/metrics", headers={"X-API-Key": ROOT}, trust_env=False).text
    assert 'flywheel_requests_total{route="/classify",status="200"} 40.0' in text, "its counts outlive it"
    assert written(service) == [40] * 6, "so do the log's"


def test_a_bad_key_is_told_in_a_sentence_and_nothing_starts(models: Path, tmp_path: Path) -> None:
    settings = {"FLYWHEEL_SERVICE_KEYS": "alice:predict:2short"}
    with (
        pytest.raises(ServingError, match="entry 1: a secret of at least 16 characters") as refused,
        served_service(models / "model-0123456789ab", tmp_path, settings),
    ):
        pass
    assert "2short" not in str(refused.value)


def test_what_was_sent_before_a_stop_is_answered(models: Path, tmp_path: Path) -> None:
    """Under load, over connections that are kept: of a request that was on its way none is reset."""
    with served_service(models / "model-0123456789ab", tmp_path, {"FLYWHEEL_SERVICE_WORKERS": "2"}) as service:
        told, sent = threading.Event(), []

        def ask() -> None:
            with httpx.Client(trust_env=False, timeout=20) as client:
                while not told.is_set():
                    began = time.monotonic()
                    try:
                        answer = client.post(f"{service.address}/classify", files={"image": JPEG}).status_code
                    except httpx.HTTPError as error:
                        answer = repr(error)
                    sent.append((began, answer))

        threads = [threading.Thread(target=ask) for _ in range(48)]
        for thread in threads:
            thread.start()
        time.sleep(2.0)
        stopped = time.monotonic()
        service.processes[0].terminate()
        time.sleep(0.2)  # they go on meanwhile
        told.set()
        for thread in threads:
            thread.join()
    before = [answer for began, answer in sent if began < stopped]
    assert len(before) > 100
    assert [answer for answer in before if answer != 200] == []

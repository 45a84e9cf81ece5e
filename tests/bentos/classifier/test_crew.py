"""Readiness is every worker's; what workers share lies in a folder of their own."""

import os
import shutil
import subprocess
import sys
import time

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from bentos.classifier import log_notes
from bentos.classifier.crew import PREFIX, STALE_SECONDS, Crew, identity
from bentos.classifier.log_notes import LogNotes
from bentos.classifier.metrics import Exposed, Metered, Metrics, route_of
from bentos.classifier.prediction_log import LogState
from bentos.classifier.readiness import Readiness


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_service_is_ready_when_all_its_workers_are(tmp_path):
    crew = Crew(2, os.getpid(), tmp_path)
    crew.note_ready()
    asked = TestClient(Readiness(PlainTextResponse("the app's own"), lambda: crew))
    response = asked.get("/readyz")
    assert (response.status_code, response.json()["error"]["message"]) == (503, "1 of 2 workers are ready.")
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (crew.folder / f"ready-{identity(other.pid)}").touch()
    assert asked.get("/readyz").status_code == 200
    other.kill()
    deadline = time.monotonic() + 5
    while asked.get("/readyz").status_code == 200:  # it is a zombie until it is waited for, and no worker any more
        assert time.monotonic() < deadline
    other.wait()
    assert asked.get("/elsewhere").text == "the app's own"


def test_before_the_worker_stands_it_is_not_ready():
    assert TestClient(Readiness(PlainTextResponse(""), lambda: None)).get("/readyz").status_code == 503


def test_the_last_worker_takes_the_folder_away_and_dead_services_are_swept(tmp_path):
    stale, fresh, orphaned = (tmp_path / f"{PREFIX}{os.getuid()}-{dead_process()}-{number}" for number in (1, 2, 3))
    for folder in (stale, fresh, orphaned):
        folder.mkdir()
    (orphaned / f"ready-{identity(os.getpid())}").touch()
    for folder in (stale, orphaned):
        os.utime(folder, (time.time() - 2 * STALE_SECONDS,) * 2)
    crew = Crew(1, os.getpid(), tmp_path)
    assert not stale.exists()
    assert fresh.exists()
    assert orphaned.exists(), "its workers live on without the process that started them"
    crew.note_ready()
    crew.leave()
    assert not crew.folder.exists()


def test_a_note_of_a_former_life_stands_for_no_worker_of_this_one(tmp_path):
    """In a container that starts anew, processes get the numbers that others had."""
    crew = Crew(1, os.getpid(), tmp_path)
    (crew.folder / f"ready-{os.getpid()}-1").touch()
    assert crew.ready == 0
    crew.note_ready()
    assert crew.ready == 1
    assert crew.folder != Crew(1, os.getppid(), tmp_path).folder


def test_a_worker_that_still_starts_keeps_the_folder(tmp_path):
    crew = Crew(2, os.getpid(), tmp_path)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (crew.folder / f"starting-{identity(other.pid)}").touch()
    crew.note_ready()
    crew.leave()
    assert crew.folder.exists()
    other.kill()
    other.wait()
    crew.leave()
    assert not crew.folder.exists()


def test_a_folder_that_others_can_reach_is_refused(tmp_path):
    folder = tmp_path / f"{PREFIX}{os.getuid()}-{identity(os.getpid())}"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match="this user alone"):
        Crew(1, os.getpid(), tmp_path)


def test_an_idle_workers_numbers_are_refreshed_all_the_same(monkeypatch):
    monkeypatch.setattr("bentos.classifier.metrics.REFRESH_SECONDS", 0.01)
    metrics = Metrics(None)
    waiting = [7]
    metrics.watch_log(lambda: (waiting[0], 0))
    metrics.start()
    metrics.predicted("model-1", "champion", ["cat", "cat", "dog"])

    def shown() -> tuple[float, float]:
        counted = [each.value for each in metrics.predictions.collect()[0].samples if each.name.endswith("_total")]
        return sum(counted), metrics.waiting.collect()[0].samples[0].value

    def reaches(wanted: tuple[float, float]) -> bool:
        deadline = time.monotonic() + 5
        while shown() != wanted and time.monotonic() < deadline:
            time.sleep(0.01)
        return shown() == wanted

    assert reaches((3, 7))
    waiting[0] = 0
    assert reaches((3, 0))
    metrics.predicted("model-1", "champion", ["dog"])
    metrics.close()
    assert shown() == (4, 0)


def test_metrics_count_by_route_and_never_by_what_a_client_makes_up():
    metrics = Metrics(None)

    async def app(scope, receive, send):
        await PlainTextResponse("", 404 if "wp-admin" in scope["path"] else 200)(scope, receive, send)

    asked = TestClient(Metered(Exposed(app, lambda: metrics), lambda: metrics))
    for number in range(20):
        asked.get(f"/wp-admin/{number}")
    asked.post("/classify")
    asked.get("/queue/0199f2a4/image")
    metrics.watch_log(lambda: (3, 4))
    text = asked.get("/metrics").text
    assert 'flywheel_requests_total{route="other",status="404"} 20.0' in text
    assert 'flywheel_requests_total{route="/classify",status="200"} 1.0' in text
    assert 'flywheel_requests_total{route="/queue/{prediction_id}/image",status="200"} 1.0' in text
    assert "flywheel_log_waiting_rows 3.0" in text
    assert "wp-admin" not in text
    assert route_of("/queue/a/b/image") == "/queue/{prediction_id}/image"


def test_the_logs_figures_are_all_workers_and_what_a_dead_one_held_is_nobodys(tmp_path, monkeypatch):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    own = [LogState(waiting=1, written=10, spooled=0, dropped=2, trouble="")]
    mine = LogNotes(tmp_path, lambda: own[0])
    with monkeypatch.context() as there:
        there.setattr(log_notes, "identity", lambda _: identity(other.pid))
        theirs = LogNotes(tmp_path, lambda: LogState(3, 30, 5, 4, "database is locked"))
    assert mine.together() == own[0], "the other has told nothing yet"
    assert theirs.note() == LogState(3, 30, 5, 4, "database is locked")
    assert mine.together() == LogState(4, 40, 5, 6, "database is locked")
    mine.note()
    own[0] = LogState(0, 11, 0, 2, "")
    assert mine.together() == LogState(3, 41, 5, 6, "database is locked"), "its own figures are of the moment"
    assert theirs.together() == LogState(4, 40, 5, 6, "database is locked"), "those of the others are what they noted"
    other.kill()
    other.wait()
    assert mine.together() == LogState(0, 41, 0, 6, "")
    (tmp_path / "log" / "7-8.json").write_text("{")
    assert mine.together() == LogState(0, 41, 0, 6, ""), "a note that can't be read is none"


def test_figures_that_can_not_be_noted_end_nothing(tmp_path):
    notes = LogNotes(tmp_path / "crew", lambda: LogState(1, 2, 3, 4, ""))
    shutil.rmtree(tmp_path / "crew")
    assert notes.note() == notes.together() == LogState(1, 2, 3, 4, "")

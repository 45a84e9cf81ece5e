"""Every answered image is a row, once, whatever the database does meanwhile."""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bentos.classifier import prediction_log
from bentos.classifier.ask import Ask
from bentos.classifier.bundle import Bundle, Standing
from bentos.classifier.kept_images import KeptImages
from bentos.classifier.prediction_id import PredictionIds
from bentos.classifier.prediction_log import Keeping, PredictionLogger
from bentos.classifier.prediction_rows import shadow_id
from bentos.classifier.predictor import Predictor
from bentos.classifier.spool import Spool
from flywheel.data.decode import decode, image_id
from flywheel.data.measurements import statistics
from flywheel.ledger import LedgerError
from flywheel.ledger.predictions import PredictionLog, open_predictions
from flywheel.model.inference import softmax
from flywheel.paths import Paths
from flywheel.settings import PROJECT
from tests.bentos.classifier.conftest import as_shadow
from tests.bentos.classifier.test_app import encoded

IDS = PredictionIds()


def asks(count: int, client: str = "") -> list[Ask]:
    files = [encoded("JPEG"), encoded("PNG", "RGBA"), encoded("PNG", "L", (40, 30))]
    return [Ask(str(IDS.next()), files[number % 3], client) for number in range(count)]


def wait_for(told: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not told():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Logged:
    """A predictor whose answers are recorded, and the means to look at them."""

    def __init__(self, bundle: Bundle, folder: Path, keeping: Keeping | None = None) -> None:
        self.url = f"sqlite:///{folder / 'db' / 'ledger.db'}"
        self.logger = PredictionLogger(
            partial(open_predictions, self.url, hasty=True), Spool(folder / "spool"), keeping
        )
        self.logger.enter(bundle.serving)
        self.predictor = Predictor(Standing(bundle), 10**6, self.logger.record)

    def rows(self) -> list[str]:
        return [each.row.id for each in self.log().after(0, 10_000)]

    def log(self) -> PredictionLog:
        return open_predictions(self.url)


@pytest.fixture
def logged(bundle, tmp_path):
    found = Logged(bundle, tmp_path)
    yield found
    found.logger.close()


def test_a_row_says_what_was_answered_about_which_image(logged, bundle):
    given = [*asks(3, "alice"), Ask(str(IDS.next()), np.zeros((5, 4, 3), np.uint8))]
    answers = logged.predictor.predict(given)
    assert logged.logger.flush(10)
    found = logged.log().after(0, 10)
    assert [each.row.id for each in found] == [each.id for each in given]
    for each, ask, answer in zip(found[:3], given, answers, strict=False):
        pixels = decode(ask.content)
        row = each.row
        assert row.image_id == image_id(pixels)
        assert np.frombuffer(row.probabilities, np.float32).tolist() == answer.probabilities.tolist()
        assert np.frombuffer(row.statistics, np.float32).tolist() == statistics(pixels[None])[0].tolist()
        outputs = bundle.classifier.classify([pixels])
        wanted = bundle.projection.apply(outputs.embeddings)[0]
        assert np.frombuffer(row.embedding, np.float16) == pytest.approx(wanted, abs=2e-2, rel=1e-2)
        assert row.predicted == int(softmax(outputs.logits)[0].argmax())
        assert (row.height, row.width) == pixels.shape[:2]
        assert (row.bytes, row.client, each.serving) == (len(ask.content), "alice", bundle.serving)
    assert [each.row.format for each in found] == ["JPEG", "PNG", "PNG", "pixels"]
    assert (found[3].row.width, found[3].row.height, found[3].row.bytes) == (4, 5, 60)
    assert logged.logger.state.written == 4


def test_an_image_that_was_refused_is_no_prediction(logged):
    bad = Ask(str(IDS.next()), b"no image")
    good = asks(1)[0]
    logged.predictor.predict([bad, good])
    logged.logger.flush(10)
    assert logged.rows() == [good.id]


def test_a_large_image_is_measured_small_and_keeps_its_identity(logged, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (700, 1400, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    logged.predictor.predict([Ask(str(IDS.next()), (tmp_path / "large.png").read_bytes())])
    logged.logger.flush(10)
    (found,) = logged.log().after(0, 10)
    assert found.row.image_id == image_id(pixels)
    assert (found.row.width, found.row.height) == (1400, 700)


def test_rows_go_to_the_disk_while_the_database_is_gone_and_to_it_later(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_log, "RETRY_SECONDS", 0.2)
    there = False
    url = f"sqlite:///{tmp_path / 'ledger.db'}"

    def opener() -> PredictionLog:
        if not there:
            raise LedgerError("no route to the host.")
        return open_predictions(url, hasty=True)

    logger = PredictionLogger(opener, Spool(tmp_path / "spool"))
    logger.enter(bundle.serving)
    predictor = Predictor(Standing(bundle), 10**6, logger.record)
    given = [asks(3) for _ in range(4)]
    for batch in given[:3]:
        predictor.predict(batch)
        assert logger.flush(10)
    wait_for(lambda: logger.state.spooled >= 9)
    assert (logger.state.trouble, logger.state.written, logger.state.dropped) == ("no route to the host.", 0, 0)
    there = True
    predictor.predict(given[3])
    wait_for(lambda: logger.state.written == 12)
    assert logger.state.trouble == ""
    assert logger.state.spooled == 0
    logger.close()
    found = [each.row.id for each in open_predictions(url).after(0, 100)]
    assert sorted(found) == sorted(ask.id for batch in given for ask in batch)
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_database_whose_file_was_moved_away_is_noticed(logged, tmp_path, monkeypatch):
    """SQLite would go on writing into a file that has no name any more."""
    monkeypatch.setattr(prediction_log, "RETRY_SECONDS", 0.2)
    first, second = asks(2), asks(2)
    logged.predictor.predict(first)
    logged.logger.flush(10)
    (tmp_path / "db").rename(tmp_path / "gone")
    logged.predictor.predict(second)
    logged.logger.flush(10)
    wait_for(lambda: logged.logger.state.written == 4)
    assert logged.rows() == [each.id for each in second]


def test_another_writer_in_the_way_delays_rows_and_loses_none(logged):
    given = asks(3)
    logged.predictor.predict(given[:1])
    logged.logger.flush(10)
    blocker = sqlite3.connect(logged.url.removeprefix("sqlite:///"), isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    logged.predictor.predict(given[1:])
    wait_for(lambda: logged.logger.state.spooled > 0)
    assert "locked" in logged.logger.state.trouble
    blocker.execute("ROLLBACK")
    blocker.close()
    wait_for(lambda: logged.logger.state.written == 3)
    assert sorted(logged.rows()) == sorted(each.id for each in given)


def test_what_neither_database_nor_disk_takes_is_counted(bundle, tmp_path):
    (tmp_path / "spool").write_text("a file, where a folder should be")
    dropped: list[int] = []

    def nowhere() -> PredictionLog:
        raise LedgerError("gone.")

    logger = PredictionLogger(nowhere, Spool(tmp_path / "spool"), on_dropped=dropped.append)
    Predictor(Standing(bundle), 10**6, logger.record).predict(asks(3))
    logger.flush(10)
    assert logger.state.dropped == sum(dropped) == 3
    logger.close()


def test_a_full_queue_drops_and_counts_and_never_blocks_an_answer(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_log, "MOST_WAITING", 4)

    def slow() -> PredictionLog:
        time.sleep(1)
        raise LedgerError("slow.")

    logger = PredictionLogger(slow, Spool(tmp_path / "spool"))
    predictor = Predictor(Standing(bundle), 10**6, logger.record)
    predictor.predict(asks(3))
    time.sleep(0.2)  # the log's thread waits for the database now
    began = time.monotonic()
    answers = [predictor.predict(asks(3)) for _ in range(3)]
    assert time.monotonic() - began < 0.8
    assert all(len(batch) == 3 for batch in answers)
    logger.close()
    assert logger.state.dropped == 6


def test_closing_writes_what_waits(bundle, tmp_path):
    logged = Logged(bundle, tmp_path)
    given = [ask for _ in range(20) for ask in asks(8)]
    for start in range(0, len(given), 8):
        logged.predictor.predict(given[start : start + 8])
    logged.logger.close()
    assert logged.rows() == [each.id for each in given]


KILLED = """
import os, sys
from functools import partial
from pathlib import Path
from bentos.classifier.prediction_log import PredictionLogger
from bentos.classifier.predictor import Predictor
from bentos.classifier.bundle import Standing
from bentos.classifier.spool import Spool
from flywheel.ledger import LedgerError
from tests.bentos.classifier.conftest import bundle_of
from tests.bentos.classifier.test_prediction_log import asks

def nowhere():
    raise LedgerError("gone.")

logger = PredictionLogger(nowhere, Spool(Path(sys.argv[2])))
bundle = bundle_of(Path(sys.argv[1]))
logger.enter(bundle.serving)
given = asks(3)
Predictor(Standing(bundle), 10**6, logger.record).predict(given)
logger.flush(20)
print(*(each.id for each in given), flush=True)
os.kill(os.getpid(), 9)
"""


def test_the_next_worker_writes_what_a_killed_one_left_on_disk(bundle, tmp_path):
    command = [sys.executable, "-c", KILLED, str(bundle.classifier.model.folder), str(tmp_path / "spool")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    logged = Logged(bundle, tmp_path)
    wait_for(lambda: logged.logger.state.written == 3)
    logged.logger.close()
    assert logged.rows() == done.stdout.split()
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_damaged_file_of_a_killed_worker_holds_up_nothing(bundle, tmp_path):
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "predictions-7-dead.db").write_bytes(b"no database" * 1000)
    logged = Logged(bundle, tmp_path)
    given = asks(3)
    logged.predictor.predict(given)
    wait_for(lambda: logged.logger.state.written == 3 and logged.logger.state.spooled == 0)
    logged.logger.close()
    assert logged.rows() == [each.id for each in given]
    assert logged.logger.state.dropped == 0
    assert [file.name for file in (tmp_path / "spool").iterdir()] == ["predictions-7-dead.db.damaged"]


def test_where_memory_would_suffer_images_are_measured_at_once_and_not_kept(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_log, "MOST_WAITING_BYTES", 0)
    images = KeptImages(Paths(tmp_path), 10**6, set)
    logged = Logged(bundle, tmp_path, Keeping(images, share=1.0, ask_below=1.0, most_asked=9))
    given = asks(3)
    logged.predictor.predict(given)
    logged.logger.close()
    found = logged.log().after(0, 9)
    assert [each.row.image_id for each in found] == [image_id(decode(ask.content)) for ask in given]
    assert [each.row.bytes for each in found] == [len(ask.content) for ask in given]
    for each, ask in zip(found, given, strict=True):
        assert (
            np.frombuffer(each.row.statistics, np.float32).tolist() == statistics(decode(ask.content)[None])[0].tolist()
        )
    assert [each.row.kept for each in found] == [False] * 3
    assert logged.log().asked("task-1") == []


def test_a_shadow_answers_the_same_images_into_the_log_alone(bundle, challenger, tmp_path):
    logged = Logged(bundle, tmp_path)
    shadow = as_shadow(challenger)
    logged.logger.enter(shadow.serving)
    logged.predictor.standing = Standing(bundle, shadow, 1.0)
    given = asks(3)
    answers = logged.predictor.predict(given)
    logged.logger.close()
    assert {each.model_id for each in answers} == {bundle.serving.model_id}
    log = logged.log()
    beside = log.after(0, 9, shadow.serving.model_id)
    assert [each.row.id for each in beside] == [shadow_id(ask.id) for ask in given]
    wanted = softmax(shadow.classifier.classify([decode(ask.content) for ask in given]).logits)
    found = np.stack([np.frombuffer(each.row.probabilities, np.float32) for each in beside])
    assert found == pytest.approx(wanted, abs=1e-5)


def test_a_canary_answers_its_share_and_the_same_client_always_the_same_way(bundle, challenger):
    predictor = Predictor(Standing(bundle, challenger, 0.3), 10**6)
    file = encoded("JPEG")
    clients = [f"client-{number}" for number in range(400)]
    first, again = (
        [each.model_id for each in predictor.predict([Ask(str(IDS.next()), file, client) for client in clients])]
        for _ in range(2)
    )
    assert first == again
    assert 0.2 < np.mean([each == challenger.serving.model_id for each in first]) < 0.4
    whose = {bundle.serving.model_id: bundle, challenger.serving.model_id: challenger}
    for answer in predictor.predict([Ask(str(IDS.next()), file, client) for client in clients[:20]]):
        wanted = softmax(whose[answer.model_id].classifier.classify([decode(file)]).logits)[0]
        assert answer.probabilities == pytest.approx(wanted, abs=1e-5)


def test_a_sample_of_the_images_is_kept_and_the_unsure_ones_are_asked_for(bundle, tmp_path):
    images = KeptImages(Paths(tmp_path), 10**6, set)
    logged = Logged(bundle, tmp_path, Keeping(images, share=0.0, ask_below=1.0, most_asked=2))
    given = asks(3)
    logged.predictor.predict(given)
    logged.logger.close()
    log = logged.log()
    assert [each.prediction_id for each in log.asked("task-1")] == [each.id for each in given[:2]]
    assert [each.row.kept for each in log.after(0, 9)] == [True, True, False]
    assert images.read(image_id(decode(given[0].content))) == given[0].content


def test_a_full_folder_makes_room_but_never_of_what_is_waited_for(tmp_path):
    waited = {"aa-first"}
    images = KeptImages(Paths(tmp_path), 1000, lambda: waited)
    for age, name in enumerate(("aa-first", "bb-second", "cc-third")):
        assert images.keep(name, bytes(300))
        os.utime(images.path(name), (1000 + age, 1000 + age))
    assert not images.keep("dd-fourth", bytes(300))
    later = KeptImages(Paths(tmp_path), 950, lambda: waited)
    assert not later.keep("dd-fourth", bytes(800))  # it looks, and sweeps
    assert images.read("aa-first") is not None
    assert images.read("bb-second") is None
    assert images.read("cc-third") is not None

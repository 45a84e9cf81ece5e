"""The prediction log, on SQLite and Postgres: rows appended once and found again, labels, requests, trials."""

import multiprocessing
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from flywheel.ledger import LedgerError
from flywheel.ledger.predictions import PredictionLog, PredictionRow, Role, Serving, open_predictions
from tests.flywheel.conftest import Database

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
CHAMPION = Serving(7, "task-1", "model-a", "classifier:a-1", "dec-1", Role.CHAMPION, "host:1", SINCE)


def row(number: int, serving: Serving = CHAMPION, image: str = "f00d") -> PredictionRow:
    return PredictionRow(
        id=f"{number:036}",
        at=1_767_225_600_000_000 + number,
        serving_id=serving.id,
        predicted=number % 3,
        probabilities=np.array([0.2, 0.3, 0.5], np.float32).tobytes(),
        embedding=np.arange(4, dtype=np.float16).tobytes(),
        statistics=np.zeros(7, np.float32).tobytes(),
        image_id=image,
        format="JPEG",
        width=32,
        height=24,
        bytes=900,
        client="alice",
        kept=number % 2 == 0,
    )


@pytest.fixture
def log(database: Database) -> PredictionLog:
    return open_predictions(database.url)


def test_what_was_appended_is_found_whole_with_who_gave_it(log):
    log.append([CHAMPION], [row(1), row(2)])
    found = log.find(row(2).id)
    assert (found.row, found.serving) == (row(2), CHAMPION)
    assert np.frombuffer(found.row.probabilities, np.float32).tolist() == pytest.approx([0.2, 0.3, 0.5])
    assert log.find("nobody") is None


def test_rows_given_again_stand_once(log):
    for _ in range(3):
        log.append([CHAMPION], [row(1), row(2)])
    log.append([], [row(2), row(3)])
    assert [each.row.id for each in log.after(0, 10)] == [row(1).id, row(2).id, row(3).id]


def test_reading_goes_on_behind_a_position_and_can_keep_to_one_model(log):
    other = replace(CHAMPION, id=8, model_id="model-b", role=Role.SHADOW)
    log.append([CHAMPION, other], [row(1), row(2, other), row(3)])
    first = log.after(0, 2)
    assert [each.row.id for each in first] == [row(1).id, row(2).id]
    assert [each.row.id for each in log.after(first[-1].position, 2)] == [row(3).id]
    assert [each.row.id for each in log.after(0, 9, "model-b")] == [row(2).id]
    assert log.last_position() == log.after(0, 9)[-1].position
    assert log.count_by_model() == {"model-a": 2, "model-b": 1}
    assert log.count_by_model("f00d") == {"model-a": 2, "model-b": 1}
    assert log.count_by_model("beef") == {}


def test_a_label_ends_its_request_and_the_last_label_is_the_last_row(log):
    log.append([CHAMPION], [row(1), row(2)])
    log.ask([row(1).id, row(2).id], "unsure")
    log.ask([row(1).id], "asked again")
    assert [(each.prediction_id, each.reason, each.kept) for each in log.asked()] == [
        (row(1).id, "unsure", False),
        (row(2).id, "unsure", True),
    ]
    assert (log.count_asked(), log.images_to_keep()) == (2, {"f00d"})
    log.add_label(row(1).id, "cat", source="a person", client="alice")
    log.add_label(row(1).id, "dog", source="a person", client="alice")
    assert [each.prediction_id for each in log.asked(limit=5)] == [row(2).id]
    assert [each.label for each in log.labels()] == ["cat", "dog"]
    assert [each.label for each in log.labels(after=log.labels()[0].position)] == ["dog"]


def test_the_last_trial_counts_until_it_is_ended(log):
    assert log.trial("task-1") is None
    log.begin_trial("task-1", "model-b", "classifier:b-1", Role.CANARY, 0.1, reason="try", who="alice")
    assert (log.trial("task-1").model_id, log.trial("task-1").share) == ("model-b", 0.1)
    log.begin_trial("task-1", "model-b", "classifier:b-1", Role.NONE, 0, reason="enough", who="alice")
    assert log.trial("task-1") is None
    with pytest.raises(LedgerError, match="from 0 to 1"):
        log.begin_trial("task-1", "model-b", "classifier:b-1", Role.CANARY, 10, reason="try", who="alice")


def test_servings_are_listed_with_the_refused_ones(log):
    refused = replace(CHAMPION, id=9, problem="its files are damaged", since=datetime(2026, 1, 2, tzinfo=UTC))
    log.append([CHAMPION, refused], [])
    assert log.servings("task-1") == [refused, CHAMPION]
    assert log.servings("task-2") == []


def _write(url: str, start: int, count: int) -> None:
    log = open_predictions(url)
    for number in range(start, start + count, 5):
        log.append([CHAMPION], [row(each) for each in range(number, number + 5)])


def test_a_reader_by_position_misses_nothing_while_several_write(database):
    """A plain sequence hands out numbers before they are committed: a reader would step over the slower writer's."""
    log = open_predictions(database.url)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(database.url, 1000 * k, 200)) for k in range(3)]
    for writer in writers:
        writer.start()
    seen: list[str] = []
    position = 0
    while any(writer.is_alive() for writer in writers) or log.last_position() > position:
        for each in log.after(position, 50):
            seen.append(each.row.id)
            position = each.position
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert sorted(seen) == sorted(row(1000 * k + n).id for k in range(3) for n in range(200))

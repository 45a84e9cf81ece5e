"""The prediction log, on SQLite and Postgres: rows appended once and found again, labels, requests, trials."""

import multiprocessing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from flywheel.ledger import LedgerError
from flywheel.ledger.leases import open_leases
from flywheel.ledger.predictions import (
    BATCH_SECONDS,
    PredictionLog,
    PredictionRow,
    Role,
    Serving,
    Tally,
    open_predictions,
)
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
    assert [(each.prediction_id, each.reason, each.kept) for each in log.asked("task-1")] == [
        (row(1).id, "unsure", False),
        (row(2).id, "unsure", True),
    ]
    assert (log.count_asked("task-1"), log.images_to_keep()) == (2, {"f00d"})
    log.add_label(row(1).id, "cat", source="a person", client="alice")
    log.add_label(row(1).id, "dog", source="a person", client="alice")
    assert [each.prediction_id for each in log.asked("task-1", limit=5)] == [row(2).id]
    assert [each.label for each in log.labels()] == ["cat", "dog"]
    assert [each.label for each in log.labels(after=log.labels()[0].position)] == ["dog"]


def test_what_an_earlier_release_or_another_task_asked_for_waits_for_nobody(log):
    other = replace(CHAMPION, id=8, task_id="task-2")
    log.append([CHAMPION, other], [row(1), row(2, other)])
    log.ask([row(1).id, row(2).id], "unsure")
    assert [each.prediction_id for each in log.asked("task-1")] == [row(1).id]
    assert (log.count_asked("task-1"), log.count_asked("task-2"), log.count_asked("task-3")) == (1, 1, 0)
    since = CHAMPION.since + timedelta(hours=1)
    later = replace(CHAMPION, id=9, release_id="dec-later", since=since)
    refused = replace(CHAMPION, id=10, release_id="dec-refused", since=since + timedelta(hours=1), problem="damaged")
    log.append([later, refused], [row(3, later)])
    log.ask([row(3).id], "unsure")
    assert [each.prediction_id for each in log.asked("task-1")] == [row(3).id]
    assert (log.count_asked("task-1"), log.count_asked("task-2")) == (1, 1)


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


def test_a_trial_with_a_lease_ends_with_it(log, database):
    leases = open_leases(database.url)
    begun = ("task-1", "model-b", "classifier:b-1", Role.CANARY, 0.2)
    log.begin_trial(*begun, reason="a canary", who="release", lease="trial-1")
    assert log.trial("task-1") is None, "nobody holds it yet"
    leases.take("trial-1", "release", 60)
    trial = log.trial("task-1")
    assert (trial.model_id, trial.lease) == ("model-b", "trial-1")
    assert log.trial("task-1", trial.until) is None
    assert log.trial("task-1", trial.until - timedelta(seconds=1)) == trial
    leases.give_back("trial-1", "release")
    assert log.trial("task-1") is None


def test_a_trial_is_ended_by_who_began_it(log):
    log.begin_trial("task-1", "model-b", "classifier:b-1", Role.CANARY, 0.2, reason="mine", who="release")
    mine = log.trial("task-1")
    log.begin_trial("task-1", "model-c", "classifier:c-1", Role.SHADOW, 1.0, reason="hers", who="ada")
    assert not log.end_trial(mine, reason="done", who="release")
    assert log.trial("task-1").model_id == "model-c"
    assert log.end_trial(log.trial("task-1"), reason="done", who="ada")
    assert log.trial("task-1") is None


def test_what_workers_count_is_told_by_release(log):
    trial = replace(CHAMPION, id=8, model_id="model-b", role=Role.CANARY, release_id="trial-1")
    buckets = [0] * (len(BATCH_SECONDS) + 1)
    log.append([CHAMPION, trial], [])
    log.note([Tally(8, 3, 1, (*buckets[:-1], 3), SINCE), Tally(7, 5, 0, (5, *buckets[1:]), SINCE)])
    log.note([Tally(8, 4, 1, (*buckets[:-2], 1, 3), SINCE)])
    (found,) = log.tallies("trial-1").items()
    assert found[0] == trial
    assert (found[1].answers, found[1].failures) == (4, 1)
    assert [found[1].slower_than(bound) for bound in (0.0, BATCH_SECONDS[-1], 100.0)] == [4, 3, 0]
    assert log.tallies("trial-1", SINCE + timedelta(seconds=1)) == {}


def test_many_labels_are_added_once_however_often_they_are_given(log):
    log.append([CHAMPION], [row(number) for number in range(1200)])
    said = [(row(number).id, "cat", "file") for number in range(1200)]
    assert log.add_labels(said, client="") == 1200
    assert log.add_labels(said, client="") == 0
    assert log.add_labels([(row(0).id, "cat", "another"), (row(1).id, "cat", "file")], client="") == 1
    assert log.add_labels([(row(0).id, "cat", "file")], client="alice") == 1, "another key says it, too"
    assert log.add_labels([(row(7).id, "dog", "file"), (row(7).id, "cat", "file")], client="") == 0
    assert log.add_labels([(row(7).id, "dog", "file")], client="") == 1
    assert [each.label for each in log.labels_of(row(7).id)] == ["cat", "dog"]
    assert log.add_labels([(row(7).id, "cat", "file")], client="") == 1, "a mind may be changed back"
    assert log.add_labels([], client="") == 0

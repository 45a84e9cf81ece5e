"""What a look reads of the prediction log, on SQLite and Postgres."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flywheel.ledger.entries import Champion
from flywheel.ledger.predictions import PredictionLog, Role, open_predictions
from flywheel.ledger.traffic import AUDIT, TrafficReader, open_traffic
from tests.flywheel.conftest import Database
from tests.flywheel.ledger.test_predictions import CHAMPION, row

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
NOW = Champion(1, "task-1", "model-a", "dec-1", "classifier:a-1", SINCE)
SHADOW = replace(CHAMPION, id=8, model_id="model-b", role=Role.SHADOW)
BEFORE = replace(CHAMPION, id=9, release_id="dec-0")


@pytest.fixture
def log(database: Database) -> PredictionLog:
    log = open_predictions(database.url)
    log.append([CHAMPION, SHADOW, BEFORE], [])
    return log


@pytest.fixture
def traffic(database: Database, log: PredictionLog) -> TrafficReader:
    return open_traffic(database.url)


def test_looks_read_every_answer_of_the_release_once(log, traffic):
    of = [CHAMPION, SHADOW, BEFORE, replace(CHAMPION, id=7)]
    log.append([], [row(number, of[number % 4]) for number in range(100)])
    first = traffic.since(NOW, 0, most=1000)
    assert (first.to, first.is_counted, first.answers) == (100, True, 50)
    assert [each.id for each in first.rows] == [row(number).id for number in range(100) if number % 4 in (0, 3)]
    nothing = traffic.since(NOW, first.to, most=1000)
    assert (nothing.rows, nothing.answers, nothing.to) == ((), 0, 100)
    log.append([], [row(number) for number in range(100, 103)])
    assert [each.id for each in traffic.since(NOW, first.to, most=1000).rows] == [row(n).id for n in (100, 101, 102)]


def test_of_more_answers_than_asked_for_some_are_read_evenly(log, traffic):
    log.append([], [row(number) for number in range(3000)])
    found = traffic.since(NOW, 0, most=100)
    assert (len(found.rows), found.is_counted, found.answers) == (100, False, 3000)
    numbers = [int(each.id) for each in found.rows]
    gaps = {later - sooner for sooner, later in itertools.pairwise(numbers)}
    assert gaps == {30}


def test_where_few_are_the_champions_more_positions_are_looked_up(log, traffic):
    log.append([], [row(number, CHAMPION if number % 10 == 0 else SHADOW) for number in range(4000)])
    found = traffic.since(NOW, 0, most=100)
    assert len(found.rows) == 100
    assert found.answers == pytest.approx(400, rel=0.2)
    assert len({each.id for each in found.rows}) == 100
    assert traffic.since(NOW, 0, most=1000).answers == 400


@pytest.mark.parametrize("late", [0, 1, 57, 99])
def test_the_first_look_begins_before_the_release(log, traffic, late):
    hours = [replace_at(number, SINCE + timedelta(hours=2 * number)) for number in range(100)]
    log.append([], hours)
    moment = SINCE + timedelta(hours=2 * late)
    assert traffic.before(moment) == late
    assert traffic.before(moment + timedelta(minutes=59)) == late
    assert traffic.before(SINCE + timedelta(days=900)) == 100


def test_an_empty_log_has_nothing(traffic):
    assert traffic.before(SINCE) == 0
    assert traffic.since(NOW, 0, most=10).rows == ()


def test_labels_count_once_and_not_where_they_were_asked_for_as_odd(log, traffic):
    log.append([], [row(number) for number in range(5)] + [row(5, SHADOW), row(6, BEFORE)])
    log.ask([row(1).id], "far from all that it was made for")
    log.ask([row(2).id], f"{AUDIT}: drawn at random")
    for number in range(7):
        log.add_label(row(number).id, "cat", source="person", client="")
    log.add_label(row(0).id, "dog", source="person", client="")
    found = {each.prediction_id: each.label for each in traffic.labels(NOW)}
    assert found == {row(0).id: "dog", row(2).id: "cat", row(3).id: "cat", row(4).id: "cat"}
    assert [each.prediction_id for each in traffic.labels(NOW) if each.audited] == [row(2).id]


def replace_at(number: int, moment: datetime):
    return row(number)._replace(at=int(moment.timestamp() * 1e6))

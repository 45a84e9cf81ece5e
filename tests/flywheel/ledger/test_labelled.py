"""Every label of a release, with the answer that it is about, on SQLite and Postgres."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import event

from flywheel.ledger.database import database_url, open_engine
from flywheel.ledger.labelled import LabelReader
from flywheel.ledger.predictions import PredictionLog, open_predictions
from tests.flywheel.conftest import Database
from tests.flywheel.ledger.test_predictions import CHAMPION, row
from tests.flywheel.ledger.test_traffic import BEFORE, NOW, SHADOW, SINCE


@pytest.fixture
def log(database: Database) -> PredictionLog:
    log = open_predictions(database.url)
    log.append([CHAMPION, SHADOW, BEFORE], [])
    return log


@pytest.fixture
def reader(database: Database, log: PredictionLog) -> LabelReader:
    return LabelReader(open_engine(database_url(database.url), create=True)[0])


def test_a_label_is_found_with_its_answer_and_why_it_was_asked_for(log, reader):
    log.append([], [row(2, image="beef")])
    log.ask([row(2).id], "it looked odd")
    label = log.add_label(row(2).id, "cat", source="person", client="alice", at=SINCE)
    (found,) = reader.labelled(NOW, most=10)
    assert (found.position, found.label, found.source, found.client) == (label.position, "cat", "person", "alice")
    assert (found.model_id, found.predicted, found.image_id, found.kept) == ("model-a", 2, "beef", True)
    assert (found.asked, found.at, found.is_known) == ("it looked odd", SINCE, True)
    assert found.confidence == pytest.approx(0.5)
    assert found.probabilities.dtype == np.float32


def test_labels_of_nobodys_predictions_are_there_and_known_as_such(log, reader):
    log.add_label(row(77).id, "cat", source="person", client="", at=SINCE)
    (found,) = reader.labelled(NOW, most=10)
    assert (found.is_known, found.predicted, found.image_id, found.confidence) == (False, -1, "", 0.0)


def test_labels_of_other_releases_and_of_trials_are_not(log, reader):
    log.append([], [row(1, SHADOW), row(2, BEFORE), row(3)])
    for number in (1, 2, 3):
        log.add_label(row(number).id, "cat", source="person", client="", at=SINCE)
    log.add_label(row(3).id, "dog", source="person", client="", at=SINCE - timedelta(seconds=1))
    assert [(each.prediction_id, each.label) for each in reader.labelled(NOW, most=10)] == [(row(3).id, "cat")]
    other = replace(NOW, decision_id="dec-0")
    assert [each.prediction_id for each in reader.labelled(other, most=10)] == [row(2).id]


def test_the_newest_are_read_and_told_in_their_order(log, reader):
    log.append([], [row(number) for number in range(5)])
    for number in range(5):
        log.add_label(row(number).id, "cat", source="person", client="", at=SINCE)
    assert [each.prediction_id for each in reader.labelled(NOW, most=3)] == [row(number).id for number in (2, 3, 4)]


def test_what_was_labelled_or_asked_for_is_told_apart(log, reader):
    log.append([], [row(number) for number in range(1200)])
    log.ask([row(3).id, row(1100).id], "it looked odd")
    log.add_label(row(7).id, "cat", source="person", client="")
    ids = [row(number).id for number in range(1200)]
    assert reader.touched(ids) == {row(number).id for number in (3, 7, 1100)}
    assert reader.touched([]) == set()


def test_labels_that_are_not_on_record_are_found_with_the_tasks_answers(log, reader):
    foreign = replace(CHAMPION, id=11, task_id="task-2")
    log.append([foreign], [row(1), row(2, SHADOW), row(3, foreign)])
    said = [(row(number).id, "cat", "file") for number in (3, 1, 2)] + [("nobody's", "dog", "file")]
    found = reader.about("task-1", said, SINCE)
    assert [(each.position, each.prediction_id, each.label) for each in found] == [
        (place, identity, label) for place, (identity, label, _) in enumerate(said)
    ]
    assert [(each.is_known, each.model_id) for each in found] == [
        (False, ""),
        (True, "model-a"),
        (True, "model-b"),
        (False, ""),
    ]
    assert found[1].confidence == pytest.approx(0.5)


def test_no_question_walks_the_predictions(database, log, reader):
    """Labels are few; what was answered is not, and is looked up by its id."""
    if not database.is_sqlite:
        pytest.skip("Postgres walks a table of no rows whatever its indexes")
    asked: list[tuple[str, object]] = []
    event.listen(reader._engine, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
    reader.labelled(NOW, most=3)
    ((question, values),) = [each for each in asked if each[0].startswith("SELECT")]
    with reader._engine.connect() as connection:
        plan = [each[3] for each in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {question}", values)]
    walked = [step for step in plan if step.startswith("SCAN")]
    assert [step.split()[1] for step in walked] == ["labels"]

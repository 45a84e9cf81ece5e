"""A rehearsal's picture is drawn from its record, and whether it ended as it must is told by it alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flywheel.records import from_json, to_json
from flywheel.report.rehearsal import Event, LookPoint, Played, draw_rehearsal

BEGAN = datetime(2026, 1, 1, 12, tzinfo=UTC)


def look(minute: float, release: str = "dec-1", evidence: float | None = 0.1, alarm: bool = False) -> LookPoint:
    at = BEGAN + timedelta(minutes=minute)
    known = evidence is not None
    numbers = (0.7, 0.6, 0.8) if known else (None, None, None)
    return LookPoint(at, "dec-9", release, evidence, 25.0 if known else None, alarm, *numbers, "nothing", "no drift")


@pytest.fixture
def played() -> Played:
    answers = tuple((BEGAN + timedelta(seconds=number), number % 3 > 0) for number in range(450))
    return Played(
        scenario="mix",
        told="noise",
        seed=0,
        began=BEGAN,
        minutes=7.5,
        champion="model-a",
        new_model="model-b",
        promoted=True,
        must_promote=True,
        outcome="it helped",
        reason="",
        requests=450,
        failed_requests=0,
        false_alarms=0,
        images_until_alarm=200,
        minutes_to_heal=4.0,
        accuracy_before=0.7,
        accuracy_under_drift=0.3,
        accuracy_after=0.5,
        events=(Event(BEGAN, "clean traffic"), Event(BEGAN + timedelta(minutes=2), "the world moves")),
        looks=(look(1), look(3, evidence=1e9, alarm=True), look(4, evidence=None), look(7, release="dec-2")),
        decisions=("dec-3",),
        runs=({"id": "1", "state": "Completed"},),
        answers=answers,
        last_prediction="p",
    )


def test_it_comes_back_from_its_record_and_is_drawn(played, tmp_path):
    assert from_json(Played, to_json(played)) == played
    picture = draw_rehearsal(played, tmp_path / "deep" / "rehearsal.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    first = picture.read_bytes()
    assert draw_rehearsal(played, picture).read_bytes() == first


def test_nothing_that_was_measured_is_drawn_as_well(played, tmp_path):
    draw_rehearsal(replace(played, looks=(), answers=(), events=()), tmp_path / "empty.png")


@pytest.mark.parametrize(
    ("changed", "holds"),
    [
        ({}, True),
        ({"promoted": False}, False),
        ({"must_promote": False}, False),
        ({"must_promote": None, "promoted": False}, True),
        ({"failed_requests": 1}, False),
        ({"false_alarms": 1}, False),
    ],
)
def test_it_holds_where_it_ended_as_it_must(played, changed, holds):
    assert replace(played, **changed).holds is holds

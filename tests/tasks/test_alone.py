"""Of a schedule's runs that were missed, one goes on: each run finds the same one, by moments that the server knows."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from tasks.alone import was_missed

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def run(hour: int, began: float | None = None, *, scheduled: bool = True):
    """Due at an hour after noon; it began so many hours after noon, or has not."""
    start = None if began is None else NOON + timedelta(hours=began)
    return SimpleNamespace(auto_scheduled=scheduled, expected_start_time=NOON + timedelta(hours=hour), start_time=start)


def test_after_a_night_asleep_the_last_one_goes_on():
    morning = NOON + timedelta(hours=8.2)
    runs = [run(hour, 8.15) for hour in range(9)]
    assert [was_missed(each, runs, morning) for each in runs] == [True] * 8 + [False]


def test_those_that_have_not_begun_yet_are_told_by_the_clock():
    morning = NOON + timedelta(hours=2.1)
    runs = [run(0), run(1), run(2, 2.05)]
    assert [was_missed(each, runs, morning) for each in runs] == [True, True, False]


def test_a_long_run_was_not_missed_when_the_next_one_is_due():
    runs = [run(0, 0.01), run(1)]
    assert not was_missed(runs[0], runs, NOON + timedelta(hours=1.5))


def test_a_run_that_a_person_started_is_never_missed():
    by_hand = run(0, 3, scheduled=False)
    assert not was_missed(by_hand, [run(1), run(2)], NOON + timedelta(hours=3))

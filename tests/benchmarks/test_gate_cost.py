"""The stopwatch of the gate's cost: a part's time is its own, and all parts make the whole."""

import pytest

from benchmarks.gate_cost import Stopwatch, table


def test_what_a_part_asks_for_in_another_counts_there():
    now = [0.0, 0.0]
    watch = Stopwatch(clock=lambda: (now[0], now[1]))

    def go_on(seconds: float) -> None:
        now[0] += seconds
        now[1] += seconds / 2

    with watch.time("whole"):
        go_on(1)
        for _ in range(2):
            with watch.time("part"):
                go_on(10)
                watch.timed("inmost", go_on)(100)
    assert {part: tuple(seconds) for part, seconds in watch.parts.items()} == {
        "whole": (1, 0.5),
        "part": (20, 10),
        "inmost": (200, 100),
    }


def test_a_part_that_fails_is_timed_too():
    now = [0.0, 0.0]
    watch = Stopwatch(clock=lambda: (now[0], now[1]))

    def fail() -> None:
        now[0] = 3.0
        raise ValueError

    with pytest.raises(ValueError):
        watch.timed("part", fail)()
    assert watch.parts["part"] == [3, 0]


def test_the_table_has_the_dearest_part_first_with_median_and_range():
    rounds = [{"a": (wall, 0.1), "b": (5.0, 5.0)} for wall in (1.0, 2.0, 9.0)]
    assert table(rounds) == {
        "b | seconds": 5, "b | least": 5, "b | most": 5, "b | CPU seconds": 5,
        "a | seconds": 2, "a | least": 1, "a | most": 9, "a | CPU seconds": 0.1,
    }  # fmt: skip

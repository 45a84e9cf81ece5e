"""Where there is no terminal, progress is plain lines, and not one a step."""

import io

from rich.console import Console

from flows.console import ConsoleReporter, duration
from flows.estimate import Estimate
from flywheel.settings import TrainingParameters


def plain_reporter() -> tuple[ConsoleReporter, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=False)
    return ConsoleReporter(console, Estimate(TrainingParameters(), "release", lambda: 0.0)), out


def test_durations_read_as_people_say_them() -> None:
    assert duration(9.4) == "9 s"
    assert duration(95.0) == "1 min 35 s"
    assert duration(59.7) == "1 min 00 s"


def test_steps_are_not_printed_and_epochs_are() -> None:
    reporter, out = plain_reporter()
    reporter._printed = float("inf")  # as if a line had just been printed
    with reporter:
        reporter.started("train")
        for step in range(1, 100):
            reporter.training({"event": "step", "epoch": 1, "epochs": 5, "step": step, "steps": 500, "loss": 2.0})
        reporter.training(
            {"event": "epoch", "epoch": 1, "epochs": 5, "step": 100, "steps": 500, "top1_validation": 0.5}
        )
    lines = out.getvalue().splitlines()
    assert len(lines) == 1
    assert "epoch 1 of 5, validation top-1 0.500" in lines[0]


def test_a_finished_stage_says_what_it_made() -> None:
    reporter, out = plain_reporter()
    with reporter:
        reporter.started("index")
        reporter.finished("index", 3.2, "idx-0123456789ab")
    assert "index" in out.getvalue()
    assert "idx-0123456789ab" in out.getvalue()
    assert "\x1b" not in out.getvalue()

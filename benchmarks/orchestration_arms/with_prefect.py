"""`make run`, as it stands in the tree that PYTHONPATH names, timed by stage. Takes the options of `flows.run`."""

import sys

from clock import Clock

import flows.run

clock = Clock()


class TimedReporter(flows.run.ConsoleReporter):  # type: ignore[misc, name-defined]
    """A stage's part reaches from the end of the one before it to its own, so what Prefect does between counts."""

    def started(self, stage: str) -> None:
        if stage == "fetch source":
            clock.lap("start")
        super().started(stage)

    def finished(self, stage: str, seconds: float, result: str) -> None:
        super().finished(stage, seconds, result)
        clock.lap(stage)


if __name__ == "__main__":
    flows.run.ConsoleReporter = TimedReporter
    code = flows.run.main()
    clock.lap("end")
    clock.leave()
    sys.exit(code)

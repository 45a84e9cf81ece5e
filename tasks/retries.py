"""When something is tried again: a host that was out of reach, a run whose process was killed; and when no more."""

from typing import Any

from flywheel.data.sources import SourceError

MOST_TRIES = 3
OUT_OF_REACH = "could not be downloaded"


class GivenUp(RuntimeError):  # noqa: N818 - it reads as what happened
    """A run that crashed again and again; the message says what to look at."""


def stop_after_crashes() -> None:
    """Raise GivenUp in a run that a crash started too often: a lasting fault would crash it for ever."""
    from prefect.runtime import flow_run

    tries = int(flow_run.run_count or 0)
    if tries > MOST_TRIES:
        raise GivenUp(
            f"This run crashed {tries - 1} times and is not tried again. Look at what ended it: memory most often "
            f"(.flywheel/logs/worker.log, and the system's log). A new run goes on where this one was."
        )


def worth_another_try(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a fetch failed for a host out of reach, in a run that nobody waits for at a terminal."""
    from prefect.runtime import deployment

    if not deployment.id:
        return False
    error = state.result(raise_on_failure=False)
    return isinstance(error, SourceError) and OUT_OF_REACH in str(error)

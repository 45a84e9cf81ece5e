"""What a trial on live traffic leaves in the Prefect UI."""

from typing import cast
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact

from flywheel.evaluation.canary import Arm
from flywheel.ledger import Decision
from tasks.artifacts import MARKS, cell, never_fatal
from tasks.canary import Tried


class TrialProgress:
    """A bar that moves with the answers that the challenger gave."""

    def __init__(self, model_id: str, most: int) -> None:
        self._model_id, self._most = model_id, most
        self._artifact: UUID | None = None

    def __call__(self, champion: Arm, challenger: Arm) -> None:
        self._move(champion, challenger)

    @never_fatal
    def _move(self, champion: Arm, challenger: Arm) -> None:
        done = min(100.0, 100.0 * challenger.answers / self._most)
        said = f"{self._model_id}: {challenger.answers:,} answers, {challenger.failures:,} failures; the champion "
        said += f"{champion.answers:,} and {champion.failures:,}"
        if self._artifact is None:
            self._artifact = cast(UUID, create_progress_artifact(done, key="trial", description=said))
        else:
            update_progress_artifact(self._artifact, done, description=said)


@never_fatal
def show_trial(tried: Tried, decision: Decision) -> None:
    """What was measured of both, and the verdict."""
    lines = [
        f"# {tried.end}",
        f"{MARKS[decision.verdict]}: {cell(decision.reason)}",
        "",
        f"Decision `{decision.id}`, {tried.seconds:.0f} s.",
        "",
        "| | champion | challenger |",
        "| --- | ---: | ---: |",
    ]
    for name in ("answers", "failures", "slow", "labelled", "right"):
        lines.append(f"| {name} | {getattr(tried.champion, name):,} | {getattr(tried.challenger, name):,} |")
    create_markdown_artifact("\n".join(lines), key="canary", description="The trial on live traffic.")

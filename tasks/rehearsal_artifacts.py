"""What a rehearsal leaves in the Prefect UI: its table and its picture."""

from pathlib import Path

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flywheel.report.rehearsal import Played
from flywheel.units import percent
from tasks.artifacts import never_fatal


def rows_of(played: Played) -> list[tuple[str, str]]:
    """What a person asks first."""
    return [
        ("scenario", f"{played.scenario}: {played.told}"),
        *([("judged by", played.policy)] if played.policy else []),
        *([("frozen set", played.frozen_set)] if played.frozen_set else []),
        ("ended", played.outcome),
        ("images until the alarm", "none" if played.images_until_alarm is None else f"{played.images_until_alarm:,}"),
        ("minutes until healed", "–" if played.minutes_to_heal is None else f"{played.minutes_to_heal:.1f}"),
        ("accuracy before", percent(played.accuracy_before)),
        ("accuracy under drift", percent(played.accuracy_under_drift)),
        ("accuracy after", percent(played.accuracy_after)),
        ("requests", f"{played.requests:,}"),
        ("requests failed", f"{played.failed_requests:,}"),
        ("false alarms", f"{played.false_alarms:,}"),
        ("minutes in all", f"{played.minutes:.1f}"),
    ]


@never_fatal
def show_rehearsal(played: Played, folder: Path) -> None:
    from flywheel.report.page import data_uri

    rows = [{"": name, "value": value} for name, value in rows_of(played)]
    create_table_artifact(rows, key="rehearsal", description=f"**{played.outcome}**")
    picture = f"![The rehearsal]({data_uri(folder / 'rehearsal.png')})"
    create_markdown_artifact(picture, key="rehearsal-picture", description="Accuracy, evidence and events.")

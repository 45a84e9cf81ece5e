"""What a retraining leaves in the Prefect UI: the labels, the images that wait for one, and what became of it."""

from collections import Counter

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flywheel.ledger import Champion, Decision
from flywheel.ledger.predictions import open_predictions
from flywheel.settings import Settings
from tasks.artifacts import MARKS, cell, never_fatal
from tasks.labels import Gathered

MOST_SHOWN = 100


@never_fatal
def show_labels(gathered: Gathered) -> None:
    """By source and class, and what was set aside."""
    rows = [
        {"labels": count, "source": source, "label": label, "": "believed"}
        for (source, label), count in sorted(Counter((each.source, each.label) for each in gathered.accepted).items())
    ]
    rows += [
        {"labels": count, "source": source, "label": "", "": reason}
        for (source, reason), count in Counter((each.answer.source, each.reason) for each in gathered.set_aside).items()
    ]
    create_table_artifact(rows, key="labels", description=f"**{gathered.summary}**")


@never_fatal
def show_queue(champion: Champion, asked: int, settings: Settings) -> None:
    """Whose label is asked for, the oldest request first."""
    open_requests = open_predictions(settings).asked(champion.task_id, MOST_SHOWN)
    rows = [
        {"prediction": each.prediction_id, "image": each.image_id[:12], "why": each.reason, "since": f"{each.at:%F %R}"}
        for each in open_requests
    ]
    said = f"**{asked:,} images wait for a label** of {champion.model_id}'s answers; the first {len(rows):,}."
    create_table_artifact(rows, key="label-queue", description=said)


@never_fatal
def show_retraining(decision: Decision) -> None:
    """The decision in words."""
    evidence = decision.evidence
    lines = [
        f"# {evidence['outcome']}",
        f"{MARKS[decision.verdict]}: {cell(decision.reason)}",
        "",
        f"Why: {cell(evidence['why'])}",
        "",
        f"Decision `{decision.id}` on `{decision.inputs['model_id']}`.",
    ]
    lines += [
        f"- {name}: {cell(str(evidence[name]))}" for name in evidence if name not in ("outcome", "why", "release")
    ]
    create_markdown_artifact("\n".join(lines), key="retraining", description="What became of it.")

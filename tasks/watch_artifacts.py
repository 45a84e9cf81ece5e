"""What a monitoring run leaves in the Prefect UI, and the event that it emits."""

from pathlib import Path

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.events import emit_event

from flywheel.ledger import Champion, Decision
from flywheel.monitoring.diagnosis import Action
from flywheel.monitoring.look import Look
from flywheel.paths import Paths
from flywheel.units import evidence, number, percent, probability
from tasks.addresses import page_url
from tasks.artifacts import MARKS, cell, link_to, never_fatal

EVENT = "flywheel.drift"  # followed by what is asked for: flywheel.drift.retrain
EVENTS = {
    Action.REPORT: "report",
    Action.RETRAIN: "retrain",
    Action.RECALIBRATE: "recalibrate",
    Action.BLOCK: "block-retraining",
    Action.ASK: "ask-for-labels",
}


@never_fatal
def show_look(decision: Decision, look: Look, page: Path, figure: Path, paths: Paths) -> None:
    """The decision in words, the timeline, the numbers, and the way to the page."""
    from flywheel.report.page import data_uri

    create_markdown_artifact(look_markdown(decision, look, link_to(page, paths)), key="watch", description="The look.")
    picture = f"![The looks since the release]({data_uri(figure)})"
    create_markdown_artifact(picture, key="watch-timeline", description="The looks since the release.")
    create_table_artifact(_rows(look), key="watch-numbers", description=f"**{decision.id}**: what was measured.")
    if url := page_url(page, paths):
        create_link_artifact(url, link_text="The page of this look", key="watch-page", description=decision.id)


def look_markdown(decision: Decision, look: Look, page: str = "") -> str:
    """What was decided and why."""
    lines = [
        f"# {look.action if look.measured else look.outcome}",
        f"{MARKS[decision.verdict]}: {cell(decision.reason)}",
        "",
        *((f"All of it, with images: {page}", "") if page else ()),
        *(f"- refused: {cell(told)}" for told in look.failed),
        *(f"- look: {cell(told)}" for told in look.warnings),
        "",
        f"Decision `{decision.id}` on `{decision.inputs['model_id']}`, predictions {look.after + 1:,} to {look.to:,}.",
    ]
    return "\n".join(lines)


def _rows(look: Look) -> list[dict[str, str]]:
    rows = [
        ("predictions since the look before", f"{look.answers:,}", ""),
        ("predictions an hour", number(look.per_hour and round(look.per_hour)), ""),
        ("accuracy by labels", percent(look.labelled.value if look.labelled else None), f"{look.labels:,} labels"),
    ]
    if (found := look.measured) is not None:
        interval = f"{percent(found.estimate.low)} – {percent(found.estimate.high)}, 90 %"
        rows += [
            ("images measured", f"{found.images:,}", ""),
            ("estimated accuracy", percent(found.estimate.value), interval),
            ("accuracy on the reference", percent(found.estimate.reference), ""),
            ("evidence of drift", evidence(found.alarm.evidence), f"alarm at {evidence(found.alarm.threshold)}"),
        ]
        rows += [
            (f"{each.name}, shift", number(each.effect), f"p {probability(each.p)}") for each in found.drift.channels
        ]
        rows += [
            (each.name, number(each.window), f"reference {number(each.reference)}{', moved' if each.moved else ''}")
            for each in found.drift.statistics
        ]
    return [{"": name, "value": value, "beside": beside} for name, value, beside in rows]


@never_fatal
def emit(decision: Decision, champion: Champion, action: Action) -> None:
    """Tell Prefect's automations, where drift was found: `flywheel.drift.retrain` and the like."""
    if action not in EVENTS:
        return
    emit_event(
        event=f"{EVENT}.{EVENTS[action]}",
        resource={
            "prefect.resource.id": f"flywheel.task.{champion.task_id}",
            "prefect.resource.name": champion.task_id,
            "flywheel.model": champion.model_id,
        },
        payload={
            "decision_id": decision.id,
            "task_id": champion.task_id,
            "verdict": decision.verdict.value,
            "action": action.value,
            "reason": decision.reason,
        },
    )

"""The page and the metrics of a look, from the ledger, the window and the images that a service kept."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from flywheel.ledger import Champion, Decision, Ledger
from flywheel.monitoring.look import Look, look_of
from flywheel.paths import Paths
from flywheel.records import Verdict
from tasks.window import Window

if TYPE_CHECKING:
    from flywheel.report.watch import Odd

log = logging.getLogger(__name__)

MOST_PICTURES = 24
MOST_LOOKS = 200  # of the timeline


@dataclass(frozen=True)
class Told:
    """What a look's page tells of."""

    decision: Decision
    look: Look
    champion: Champion
    classes: tuple[str, ...]
    labels_asked: int
    docs: Path | None  # the suite's page


def write_page(
    told: Told, ledger: Ledger, paths: Paths, window: Window | None, odd: Sequence[int]
) -> tuple[Path, Path]:
    """The look's page and its timeline, `timeline.png`; `odd` are places in the window."""
    from flywheel.report.timeline import Moment, draw_timeline
    from flywheel.report.watch import WatchContents, write_watch

    decision, champion = told.decision, told.champion
    folder = paths.watch(decision.task_id)
    looks = [(each.created_at, look_of(each.evidence)) for each in ledger.looks(champion, limit=MOST_LOOKS)[::-1]]
    moments = [Moment(at, each) for at, each in looks if each is not None]
    figure = draw_timeline(moments, folder / "timeline.png")
    contents = WatchContents(
        decision_id=decision.id,
        verdict=decision.verdict,
        reason=decision.reason,
        at=decision.created_at,
        model_id=champion.model_id,
        task_id=champion.task_id,
        since=champion.since,
        number=told.look.state.looks,
        look=told.look,
        labels_asked=told.labels_asked,
        odd=[_odd(window, place, told.classes, paths) for place in odd] if window else (),
        docs=os.path.relpath(told.docs, folder) if told.docs else "",
    )
    return write_watch(contents, figure, folder), figure


def page_of(decision: Decision, paths: Paths) -> Path:
    """Where a look's page lies: one of its own where it asked for something, else that of the last look."""
    from flywheel.report.watch import INDEX

    own = paths.watch(decision.task_id) / f"{decision.id}.html"
    return own if own.is_file() else paths.watch(decision.task_id) / INDEX


def _odd(window: Window, place: int, classes: tuple[str, ...], paths: Paths) -> "Odd":
    from flywheel.report.pictures import picture
    from flywheel.report.watch import Odd

    probabilities = window.sample.probabilities[place]
    label, confidence = classes[int(probabilities.argmax())], float(probabilities.max())
    try:
        return Odd(label, confidence, picture(paths.predicted_image(window.image_ids[place]).read_bytes()))
    except (OSError, ValueError) as error:
        log.debug("%s: no picture: %s", window.image_ids[place], error)
        return Odd(label, confidence, "")


def write_metrics(decision: Decision, champion: Champion, look: Look, paths: Paths) -> Path:
    """The last look as Prometheus' text, for a node exporter's textfile collector or a scrape of the reports' server.

    It holds the task that was looked at last; whoever watches several tasks gives each a home.
    """
    registry = CollectorRegistry()
    labels = {"task": champion.task_id, "model": champion.model_id}

    def gauge(name: str, said: str, value: float | None) -> None:
        if value is not None:
            Gauge(f"flywheel_watch_{name}", said, list(labels), registry=registry).labels(**labels).set(value)

    found = look.measured
    gauge("look", "Looks since the release.", look.state.looks)
    gauge("at_seconds", "When the last look was taken, seconds since 1970.", decision.created_at.timestamp())
    gauge("position", "Up to where the prediction log was read.", look.to)
    gauge("predictions_per_hour", "Answers of the champion between the last two looks.", look.per_hour)
    gauge("alarm", "1 since drift was found in this release's life.", float(look.alarm))
    gauge("healthy", "1 where the last look found nothing to do.", float(decision.verdict is Verdict.PASS))
    gauge("labels", "True labels since the release.", look.labels)
    gauge("labelled_accuracy", "Accuracy by these labels.", look.labelled.value if look.labelled else None)
    if found is not None:
        gauge("evidence", "Evidence of drift, to be compared with the threshold.", found.alarm.evidence)
        gauge("evidence_threshold", "Evidence that raises the alarm.", found.alarm.threshold)
        gauge("estimated_accuracy", "Without labels.", found.estimate.value)
        gauge("estimated_accuracy_low", "The low end of its 90 % interval.", found.estimate.low)
        gauge("estimated_accuracy_high", "The high end of its 90 % interval.", found.estimate.high)
        gauge("input_shift", "Standard deviations of an image.", found.drift.input.effect)
        gauge("prediction_shift", "Standard deviations of an image.", found.drift.prediction.effect)
    paths.watch_metrics.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(paths.watch_metrics), registry)
    return paths.watch_metrics

"""One page a look of monitoring: what was seen, whether it moved, what it costs, and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from flywheel.model.folder import write_atomically
from flywheel.monitoring.diagnosis import Action
from flywheel.monitoring.look import Look, Outcome
from flywheel.records import Verdict
from flywheel.report.page import data_uri
from flywheel.report.wording import template
from flywheel.units import evidence

INDEX = "index.html"
STYLE_OF_ACTION = {
    Action.NOTHING: "pass",
    Action.REPORT: "pass",
    Action.RETRAIN: "fail",
    Action.BLOCK: "fail",
    Action.RECALIBRATE: "unknown",
    Action.ASK: "unknown",
}


@dataclass(frozen=True)
class Odd:
    """One of the window's most atypical images."""

    label: str  # what the model took it for
    confidence: float
    uri: str  # empty where its bytes were not kept


@dataclass(frozen=True)
class WatchContents:
    """All that the page tells."""

    decision_id: str
    verdict: Verdict
    reason: str
    at: datetime  # UTC
    model_id: str
    task_id: str
    since: datetime  # of the champion
    number: int  # of the look since the release
    look: Look
    labels_asked: int
    odd: Sequence[Odd]
    docs: str  # the way to the suite's page

    @property
    def style(self) -> str:
        if self.look.outcome is not Outcome.MEASURED:
            return "unknown"
        return STYLE_OF_ACTION[self.look.action]

    @property
    def said(self) -> str:
        """The badge: what is to be done, or why nothing is known."""
        if self.look.outcome is not Outcome.MEASURED:
            return str(self.look.outcome)
        return "all is well" if self.look.action is Action.NOTHING else str(self.look.action)


def write_watch(contents: WatchContents, figure: Path, folder: Path) -> Path:
    """Write the last look's page, and one that stays where the look asked for something. Returns the one to show."""
    page = render_watch(contents, data_uri(figure))
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / INDEX, page)
    if contents.look.action is Action.NOTHING:
        return folder / INDEX
    stays = folder / f"{contents.decision_id}.html"
    write_atomically(stays, page)
    return stays


def render_watch(contents: WatchContents, timeline: str) -> str:
    """The page as text; `timeline` is a data URI."""
    return template("watch.html.j2", evidence=evidence).render(
        contents=contents, look=contents.look, measured=contents.look.measured, timeline=timeline
    )

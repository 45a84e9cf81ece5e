"""Records and figures → one HTML file without a link to anything outside it."""

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from flywheel.model.folder import write_atomically
from flywheel.report.contents import PAGE, ReportContents, outcome, write_contents
from flywheel.report.wording import template

CAPTIONS = {
    "learning_curve": "Training loss, and top-1 on the validation side by epoch",
    "confusion_matrix": "What each true class was taken for",
    "reliability": "How often an answer of a given confidence is right",
    "mistakes": "The wrong answers the model was surest of",
}


def write_report(
    contents: ReportContents, figures: Sequence[Path], *, champion: str, at: datetime, verdict_page: str = ""
) -> Path:
    """Write `report.html`, and what it tells as `report.json`, into the evaluation's folder. Returns the page.

    `champion` is a sentence on who the task's champion is at this moment, `at` (UTC), and `verdict_page` the way from
    the report to the gate's page, where there is one. Raises FileNotFoundError where a figure is missing.
    """
    folder = contents.evaluation.folder
    page = render(contents, figures, champion=champion, at=at, verdict_page=verdict_page)
    write_contents(contents, folder)
    write_atomically(folder / PAGE, page)
    return folder / PAGE


def render(
    contents: ReportContents, figures: Sequence[Path], *, champion: str, at: datetime, verdict_page: str = ""
) -> str:
    """The page as text."""
    return template("page.html.j2", outcome=outcome).render(
        contents=contents,
        model=contents.model,
        evaluation=contents.evaluation,
        gate=contents.gate,
        data=contents.data,
        figures=[(CAPTIONS.get(path.stem, path.stem), data_uri(path)) for path in figures],
        champion=champion,
        at=at,
        verdict_page=verdict_page,
    )


def data_uri(path: Path) -> str:
    """A PNG as text that stands inside the page."""
    return f"data:image/png;base64,{b64encode(path.read_bytes()).decode('ascii')}"

"""Records and figures → one HTML file without a link to anything outside it."""

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from flywheel.model.folder import write_atomically
from flywheel.records import Verdict
from flywheel.report.contents import PAGE, ReportContents, outcome, write_contents
from flywheel.report.wording import moment, number, percent

CAPTIONS = {
    "learning_curve": "Training loss, and top-1 on the validation side by epoch",
    "confusion_matrix": "What each true class was taken for",
    "reliability": "How often an answer of a given confidence is right",
    "mistakes": "The wrong answers the model was surest of",
}
VERDICT_STYLE = {Verdict.PASS: "pass", Verdict.FAIL: "fail", Verdict.NOT_ENOUGH_EVIDENCE: "unknown"}


def write_report(contents: ReportContents, figures: Sequence[Path], *, champion: str, at: datetime) -> Path:
    """Write `report.html`, and what it tells as `report.json`, into the evaluation's folder. Returns the page.

    `champion` is a sentence on who the task's champion is at this moment, `at` (UTC). Raises FileNotFoundError where
    a figure is missing.
    """
    folder = contents.evaluation.folder
    page = render(contents, figures, champion=champion, at=at)
    write_contents(contents, folder)
    write_atomically(folder / PAGE, page)
    return folder / PAGE


def render(contents: ReportContents, figures: Sequence[Path], *, champion: str, at: datetime) -> str:
    """The page as text. Class names, paths and reasons come from outside: all is escaped."""
    # the ending .j2 is not one that jinja2 would escape by itself
    environment = Environment(
        loader=PackageLoader("flywheel.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(number=number, percent=percent, moment=moment, outcome=outcome)
    return environment.get_template("page.html.j2").render(
        contents=contents,
        model=contents.model,
        evaluation=contents.evaluation,
        gate=contents.gate,
        data=contents.data,
        figures=[(CAPTIONS.get(path.stem, path.stem), data_uri(path)) for path in figures],
        champion=champion,
        style=VERDICT_STYLE,
        at=at,
    )


def data_uri(path: Path) -> str:
    """A PNG as text that stands inside the page."""
    return f"data:image/png;base64,{b64encode(path.read_bytes()).decode('ascii')}"

"""Figures and the page of a model: when it was judged, and again from its records by `make visualize MODEL=…`."""

import argparse
import logging
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from flywheel.ledger import Champion, Ledger, LedgerError, open_ledger
from flywheel.ledger.entries import utc_now
from flywheel.paths import Paths
from flywheel.records import DatasetVersion, Evaluation, GateVerdict, PreparedData, TrainedModel
from flywheel.settings import Settings, TrainingParameters, keep_tools_at_home
from tasks.verdict_page import verdict_page

logger = logging.getLogger(__name__)


def make_report(
    model: TrainedModel,
    data: PreparedData,
    evaluation: Evaluation,
    gate: GateVerdict,
    bento_tag: str,
    paths: Paths,
    *,
    champion: Champion | None = None,
    parameters: TrainingParameters | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Path:
    """Draw the figures, unless they are there, and write `reports/<eval id>/report.html`; returns the page.

    `champion` is the task's at this moment, `parameters` what the flow was given: the page's command comes from them.
    """
    from flywheel.report.contents import ReportContents
    from flywheel.report.drawn import find_figures
    from flywheel.report.page import write_report
    from flywheel.report.verdict import verdict_link

    figures = find_figures(model, evaluation, data.dataset, paths) or _draw(model, evaluation, data.dataset, paths)
    contents = ReportContents(model, data, evaluation, gate, bento_tag, parameters)
    link = verdict_link(gate.id, evaluation.folder, paths)
    page = write_report(contents, figures, champion=reigning(champion, model.id), at=clock(), verdict_page=link)
    logger.info("%d figures of %s, report %s", len(figures), model.id, page)
    return page


def visualize(
    model_id: str,
    paths: Paths,
    champion: Champion | None,
    clock: Callable[[], datetime] = utc_now,
    ledger: Ledger | None = None,
) -> Path:
    """Draw a model's figures and page again from its records: nothing is trained, nothing predicted.

    With a ledger, its verdict's page too.
    Raises what names the missing record: ModelError, EvaluationError or the dataset's own error.
    """
    from flywheel.data.versions import load_version
    from flywheel.evaluation.record import evaluation_id, read_evaluation
    from flywheel.model.folder import read_model
    from flywheel.report.contents import read_contents
    from flywheel.report.page import write_report
    from flywheel.report.verdict import verdict_link

    model = read_model(paths.model(model_id))
    version = load_version(paths.dataset(model.dataset_id))
    evaluation = read_evaluation(paths.report(evaluation_id(model.id, version.evaluation_set_id)))
    contents = read_contents(evaluation.folder, model, evaluation)
    figures = _draw(model, evaluation, version, paths)
    if ledger is not None:
        verdict_page(contents.gate, ledger, paths, again=True, clock=clock)
    link = verdict_link(contents.gate.id, evaluation.folder, paths)
    return write_report(contents, figures, champion=reigning(champion, model.id), at=clock(), verdict_page=link)


def _draw(model: TrainedModel, evaluation: Evaluation, version: DatasetVersion, paths: Paths) -> list[Path]:
    from flywheel.figures import draw_all
    from flywheel.report.drawn import note_figures

    figures = draw_all(model, evaluation, version, paths)
    note_figures(figures, model, evaluation, version, paths)
    return figures


def reigning(champion: Champion | None, model_id: str) -> str:
    """A sentence on who is champion now."""
    if champion is None:
        return "The task had no champion when this page was written."
    who = "This model" if champion.model_id == model_id else champion.model_id
    return f"{who} is the champion of the task, since {champion.since:%Y-%m-%d %H:%M} UTC."


def main(arguments: list[str] | None = None) -> int:
    """`python -m tasks.visualize [--model ID]`; without a model, the champion of the task promoted last."""
    parser = argparse.ArgumentParser(prog="make visualize", description=main.__doc__)
    parser.add_argument("--model", "--MODEL", metavar="ID", help="model-…; by default the champion")
    model_id = parser.parse_args(arguments).model
    settings = Settings()
    keep_tools_at_home(settings)
    try:
        ledger = _ledger(settings, model_id)
        task_champion = _champion(ledger, settings, model_id)
        page = visualize(model_id or _named(task_champion), settings.paths, task_champion, ledger=ledger)
    except (OSError, RuntimeError, ValueError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command's answer
        return 1
    print(f"report   {page}\nfigures  {settings.paths.figures(model_id or _named(task_champion))}")  # noqa: T201
    return 0


def _ledger(settings: Settings, model_id: str | None) -> Ledger | None:
    """None where there is no ledger yet: a model that is named needs none."""
    try:
        return open_ledger(settings, create=False)
    except LedgerError:
        if model_id is None:
            raise
        return None


def _champion(ledger: Ledger | None, settings: Settings, model_id: str | None) -> Champion | None:
    """The champion of the model's task, or of the last promoted one."""
    from flywheel.model.folder import read_model

    if ledger is None:
        return None
    return ledger.champion(read_model(settings.paths.model(model_id)).task_id if model_id else None)


def _named(champion: Champion | None) -> str:
    if champion is None:
        raise LedgerError("No champion yet. Name a model, MODEL=model-…, or run 'make run'.")
    return champion.model_id


if __name__ == "__main__":
    sys.exit(main())

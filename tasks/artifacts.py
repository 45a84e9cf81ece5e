"""What a run leaves in the Prefect UI: tables, progress, figures, the verdict, and links to its pages.

Artifacts are for eyes only: the truth lies in the manifests, the ledger and `reports/`. So nothing here fails a run.
"""

import logging
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, cast
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import get_run_context
from prefect.exceptions import MissingContextError

from flywheel.data.versions import told_elsewhere
from flywheel.paths import Paths
from flywheel.records import (
    DatasetVersion,
    Evaluation,
    GateVerdict,
    Interval,
    Release,
    RuleResult,
    Severity,
    Side,
    TrainedModel,
    ValidationResult,
    Verdict,
)
from tasks.addresses import page_url
from tasks.release_commands import approve_command, release_command

P = ParamSpec("P")
log = logging.getLogger(__name__)
FIGURES = ("learning_curve", "confusion_matrix", "reliability", "mistakes")
MARKS = {Verdict.PASS: "pass", Verdict.FAIL: "**FAIL**", Verdict.NOT_ENOUGH_EVIDENCE: "**not enough evidence**"}
FOUND = {Severity.CRITICAL: "STOPS THE RUN", Severity.WARNING: "warning"}
MOST_CLASSES = 50  # of a table that a person reads; the report has all


def never_fatal(show: Callable[P, None]) -> Callable[P, None]:
    """Outside a run nothing is shown; an artifact that can't be made is a warning in the log."""

    @wraps(show)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            get_run_context()
            show(*args, **kwargs)
        except MissingContextError:
            log.debug("%s: no run to show it in", show.__name__)
        except Exception as error:  # noqa: BLE001 - a picture that is missing is no reason to lose a training
            log.warning("%s: the UI goes without it: %s", show.__name__, error)

    return run


@never_fatal
def show_validation(result: ValidationResult, paths: Paths) -> None:
    """One row an expectation, the failed ones first, with a link to the Data Docs."""
    rows = [
        {
            "result": "ok" if each.success else FOUND[each.severity],
            "expected": each.description,
            "found": each.observed,
            "on": each.subject,
            "expectation": each.expectation,
        }
        for each in sorted(result.results, key=lambda each: (each.success, each.severity is not Severity.CRITICAL))
    ]
    failed = sum(not each.success for each in result.results)
    said = f"**{result.subject}**, suite `{result.suite}`: {len(rows)} expectations, {failed} failed. "
    docs = f"Data Docs: {link_to(result.docs, paths)}" if result.docs else ""
    create_table_artifact(rows, key=f"validation-{result.suite}", description=said + docs)


@never_fatal
def show_dataset(dataset: DatasetVersion) -> None:
    """How many images stand on each side."""
    rows = [{"side": str(side), "images": dataset.counts.get(side, 0)} for side in Side]
    rows += [{"side": "quarantined", "images": dataset.quarantined}, {"side": "left out", "images": dataset.left_out}]
    said = f"**{dataset.id}** of {dataset.source}: {len(dataset.classes)} classes, packed at {dataset.size} pixels."
    if told := told_elsewhere(dataset):
        said += f" **Warning:** {cell(told)}."
    create_table_artifact(rows, key="dataset", description=said)


class TrainingProgress:
    """A progress bar in the UI, moved at every epoch: a step is too short for a request."""

    def __init__(self, listen: Callable[[Mapping[str, Any]], None]) -> None:
        self._listen = listen
        self._artifact: UUID | None = None

    def __call__(self, event: Mapping[str, Any]) -> None:
        self._listen(event)
        if event.get("event") in {"epoch", "resumed", "done"}:
            self._move(event)

    @never_fatal
    def _move(self, event: Mapping[str, Any]) -> None:
        epoch, epochs = int(event.get("epoch") or 0), int(event.get("epochs") or 0)
        percent = 100.0 if event["event"] == "done" else 100.0 * epoch / max(epochs, 1)
        said = "Trained" if event["event"] == "done" else f"Epoch {epoch} of {epochs}"
        for name, text in (("top1_validation", "validation top-1 {:.3f}"), ("images_per_second", "{:,.0f} images/s")):
            if (value := event.get(name)) is not None:
                said += ", " + text.format(value)
        if self._artifact is None:
            self._artifact = cast(UUID, create_progress_artifact(percent, key="training", description=said))
        else:
            update_progress_artifact(self._artifact, percent, description=said)


@never_fatal
def show_metrics(evaluation: Evaluation, model: TrainedModel) -> None:
    """Top-1 and every class's recall with their 95 % intervals."""
    rows = [
        _metric("top-1", evaluation.top1, evaluation.images),
        {
            "metric": "always the commonest class",
            "value": f"{evaluation.majority_rate:.3f}",
            "images": evaluation.images,
        },
        {"metric": "calibration error, as observed", "value": f"{evaluation.ece:.3f}", "images": evaluation.images},
        {"metric": "negative log likelihood (nats)", "value": f"{evaluation.nll:.3f}", "images": evaluation.images},
    ]
    classes = sorted(evaluation.classes, key=lambda each: each.recall.value)
    rows += [_metric(f"recall of {each.label}", each.recall, each.images) for each in classes[:MOST_CLASSES]]
    said = (
        f"**{evaluation.model_id}** ({model.architecture}, {model.parameters:,} parameters) on the {evaluation.role} "
        f"side, {evaluation.evaluation_set_id}. Intervals are 95 %. The gate takes chance out of the calibration error."
    )
    if evaluation.remade:
        said += f" **Its record was {evaluation.remade}.**"
    if len(classes) > MOST_CLASSES:
        said += f" The worst {MOST_CLASSES} of {len(classes)} classes; the report has all."
    create_table_artifact(rows, key="metrics", description=said)


@never_fatal
def show_gate(gate: GateVerdict, evaluation: Evaluation, page: Path | None, paths: Paths) -> None:
    """The verdict, rule by rule, with a link to its page."""
    text = gate_markdown(gate, evaluation.images, link_to(page, paths))
    create_markdown_artifact(text, key="gate", description=gate_description(gate))


def gate_description(gate: GateVerdict) -> str:
    """What stands above the verdict in the UI, and so doesn't say it too."""
    return f"The gate of {gate.model_id}, rule by rule."


def gate_markdown(gate: GateVerdict, images: int | None = None, page: str = "") -> str:
    """The verdict, rule by rule, as the UI renders it; `page` is a link to all that stands behind it."""
    from flywheel.units import in_unit

    on = f"{images:,} images of " if images else ""
    lines = [
        f"# {gate.verdict}",
        f"{cell(gate.reason)}",
        "",
        *((f"In plain words, beside the champion, with images: {page}", "") if page else ()),
        f"Decision `{gate.id}` on `{gate.model_id}`, champion `{gate.champion_id or 'none'}`, "
        f"on {on}`{gate.evaluation_set_id}`.",
        "",
        "| rule | verdict | measured | asked |",
        "| --- | --- | ---: | ---: |",
    ]
    lines += [
        f"| {cell(rule.rule)} | {MARKS[rule.verdict]} | {in_unit(rule.value, rule.rule)} "
        f"| {in_unit(rule.threshold, rule.rule)} |"
        for rule in gate.rules
    ]
    # not in the table: the UI does not wrap its cells
    lines += ["", *(f"- **{cell(rule.rule)}**: {cell(rule.reason)}" for rule in gate.rules)]
    return "\n".join(lines)


def gate_question(gate: GateVerdict, plain_words: str, page: str) -> str:
    """What a person is asked to decide on. Short lines, no table: the UI's form has little room."""
    lines = [
        f"## Gate: {gate.verdict}",
        f"{cell(plain_words)}",
        "",
        *((f"Beside the champion, with images: {page}", "") if page else ()),
        *(f"- {cell(rule.rule)}, {MARKS[rule.verdict]}: {_found(rule)}" for rule in gate.rules),
        "",
        f"Decision `{gate.id}` on `{gate.model_id}`, champion `{gate.champion_id or 'none'}`.",
        "",
        "**To let it through, turn the switch *Approve* on.** While it is off, *Submit* is a no.",
    ]
    return "\n".join(lines)


def _found(rule: RuleResult) -> str:
    """The numbers of a rule that passed by them, the reason of another."""
    from flywheel.units import ends, in_unit

    if rule.verdict is not Verdict.PASS or rule.value is None or rule.parts:
        return cell(rule.reason)
    if rule.interval and rule.value == rule.interval.low:
        return f"{ends(rule.interval, rule.rule)}, {in_unit(rule.threshold, rule.rule)} asked of its low end"
    interval = f" {ends(rule.interval, rule.rule)}" if rule.interval else ""
    return f"{in_unit(rule.value, rule.rule)}{interval}, asked {in_unit(rule.threshold, rule.rule)}"


@never_fatal
def show_report(report: Path, model: TrainedModel, bento_tag: str, gate: GateVerdict, paths: Paths) -> None:
    """The figures, a link to the page, and the command that releases the model."""
    from flywheel.report.page import data_uri

    figures = [figure for name in FIGURES if (figure := paths.figures(model.id) / f"{name}.png").is_file()]
    lines = [f"# {model.id}", f"Report: {link_to(report, paths)}", ""]
    for figure in figures:
        title = figure.stem.replace("_", " ")
        lines += [f"## {title}", f"![{title}]({data_uri(figure)})", ""]
    create_markdown_artifact("\n".join(lines), key="figures", description=f"The figures of {model.id}")
    if url := page_url(report, paths):
        create_link_artifact(url, link_text="The report of this model", key="report", description=model.id)
    else:
        create_markdown_artifact(f"`{report}`", key="report", description="The report's file; 'make up' serves it.")
    text = _shell(release_command(gate.id, bento_tag))
    if gate.verdict is Verdict.PASS:
        text += f"\n\nOr, where a person is to let it through:\n\n{_shell(approve_command(gate.id, bento_tag))}"
    create_markdown_artifact(text, key="release-command", description="Releases this model")


def _shell(command: tuple[str, ...]) -> str:
    """Each part on a line of its own: the UI does not wrap them."""
    broken = " \\\n  ".join(command)
    return f"```shell\n{broken}\n```"


@never_fatal
def show_release(release: Release) -> None:
    """Who is champion now, and why."""
    rows = [
        {"": "champion", "value": release.champion_id or "none"},
        {"": "before", "value": release.previous_id or "none"},
        {"": "Bento", "value": release.bento_tag},
        {"": "decision", "value": release.decision_id},
        {"": "reason", "value": release.reason},
    ]
    said = "Promoted" if release.promoted else "Not promoted"
    create_table_artifact(rows, key="release", description=f"**{said}**: {release.reason}")


def _metric(name: str, interval: Interval, images: int) -> dict[str, Any]:
    return {
        "metric": name,
        "value": f"{interval.value:.3f}",
        "low": f"{interval.low:.3f}",
        "high": f"{interval.high:.3f}",
        "images": images,
    }


def link_to(page: Path | None, paths: Paths) -> str:
    """A link in markdown, while `make up` serves the pages; else the file's place."""
    if page is None:
        return ""
    url = page_url(page, paths)
    return f"[{page.name}]({url})" if url else f"`{page}`"


def cell(text: str) -> str:
    """Text that stays in its cell of a markdown table: class names come from outside."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())

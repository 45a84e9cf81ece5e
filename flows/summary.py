"""The end of a run, for a person: what was made, how good it is, what was decided, and what to try next."""

import os
import shlex
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.console import duration
from flywheel.data.sources import is_named
from flywheel.evaluation.record import remade
from flywheel.records import GateVerdict, PreparedData, Release, Severity, Side, TrainingOutcome, Verdict
from flywheel.report.contents import changed
from flywheel.settings import Settings, TrainingParameters
from tasks.packaging import serve_command
from tasks.release_commands import approve_command
from tasks.wandb_sync import sync_command

WAITING = (
    "It passed, and waits to be released: the same command with 'make run' does that. To have a person approve it in "
    "the Prefect UI of 'make up' (Resume, switch Approve on, name and reason, Submit):"
)
STYLE = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.NOT_ENOUGH_EVIDENCE: "yellow"}


def print_data(console: Console, data: PreparedData, parameters: TrainingParameters, seconds: float) -> None:
    """The summary of `make data`."""
    table = table_of_two()
    _data_rows(table, data)
    print_summary(console, table, seconds)
    again = "".join(f" {variable}" for variable in changed(parameters))
    own = ["make run SOURCE=/path/to/your/class/folders"] if is_named(parameters.data.source) else []
    _commands(console, "Next:", [f"make train{again}", f"make run{again}", *own])


def print_outcome(console: Console, outcome: TrainingOutcome, release: Release | None, seconds: float) -> None:
    """The summary of `make run` and `make train`."""
    table = table_of_two()
    _data_rows(table, outcome.data)
    model, evaluation = outcome.model, outcome.evaluation
    table.add_row("model", f"{model.id}  {model.architecture}, {model.parameters:,} parameters, on {model.device}")
    table.add_row("top-1", f"{evaluation.top1}  on {evaluation.images:,} frozen images (95 % interval)")
    table.add_row("gate", _gate_text(outcome.gate))
    gate = outcome.gate
    judged = (gate.model_id, gate.champion_id, gate.anchor_id)
    for told in remade(judged, gate.evaluation_set_id, Settings().paths):
        table.add_row("warning", Text(told, style="yellow"))
    table.add_row("Bento", outcome.bento.tag)
    table.add_row("", Text(f"Served: {outcome.bento.smoke_test}"))
    table.add_row("champion", _champion_text(outcome, release))
    table.add_row("report", Text(shown_path(outcome.report)))
    print_summary(console, table, seconds)
    stages = ", ".join(f"{stage} {took:.1f}" for stage, took in outcome.seconds.items())
    rest = seconds - sum(outcome.seconds.values())
    console.print(
        f"Seconds by stage: {stages}; Prefect, imports and release {rest:.1f}",
        style="dim",
        highlight=False,
        soft_wrap=True,
    )
    paths = Settings().paths
    _commands(console, "Serve it:", [serve_command(paths, outcome.bento.tag)])
    if send := sync_command(model.wandb_run, paths):
        _commands(console, "Send its curves to W&B, with a key in WANDB_API_KEY:", [send])
    if release is None and outcome.gate.verdict is Verdict.PASS and outcome.gate.champion_id != model.id:
        asks = approve_command(outcome.gate.id, outcome.bento.tag)
        _commands(console, WAITING, [" ".join((".venv/bin/" + asks[0], *asks[1:]))])
    image = shlex.quote(shown_path(outcome.data.source.folder / _an_image(outcome)))
    # the champion of this task answers; where that is another model, this one is named
    this = "" if release is not None and release.champion_id == model.id else f" MODEL={model.id}"
    task = f" TASK={model.task_id}"
    _commands(
        console,
        "Next:",
        [f"make predict IMAGE={image}{this or task}", f"make champion{task}", f"make visualize MODEL={model.id}"],
    )


def table_of_two() -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    return table


def _data_rows(table: Table, data: PreparedData) -> None:
    from flywheel.data.versions import told_elsewhere

    paths = Settings().paths
    note = f"  {data.source.note}" if data.source.note else ""
    table.add_row("source", Text(f"{data.source.name}{note}"))
    counts = ", ".join(f"{count:,} {side}" for side in Side if (count := data.dataset.counts.get(side, 0)))
    table.add_row("dataset", f"{data.dataset.id}  {len(data.dataset.classes)} classes: {counts}")
    if data.dataset.quarantined:
        listed = shown_path(paths.quarantine(data.dataset.index_id))
        table.add_row("", Text(f"{data.dataset.quarantined:,} quarantined, with reasons: {listed}"))
    if data.dataset.left_out:
        listed = shown_path(data.dataset.left_out_list or data.dataset.folder)
        table.add_row("", Text(f"{data.dataset.left_out:,} left out as copies: {listed}"))
    if told := told_elsewhere(data.dataset):
        listed = shown_path(data.dataset.elsewhere_list or data.dataset.folder)
        table.add_row("warning", Text(f"{told}: {listed}", style="yellow"))
    for validation in data.validations:
        for found in validation.failed(Severity.WARNING):
            first = f" (first {', '.join(found.examples)})" if found.examples else ""
            table.add_row("warning", Text(f"{found.description}: {found.observed}{first}", style="yellow"))


def _gate_text(gate: GateVerdict) -> Text:
    return Text.assemble((gate.verdict.value, STYLE[gate.verdict]), f"  {gate.reason}  ({gate.id})")


def _champion_text(outcome: TrainingOutcome, release: Release | None) -> Text:
    if release is None:
        return Text(f"{outcome.gate.champion_id or 'none'}  (unchanged: 'make run' releases)")
    who = release.champion_id or "none"
    return Text(f"{who}  {'promoted' if release.promoted else 'unchanged'}: {release.reason}")


def _an_image(outcome: TrainingOutcome) -> Path:
    """A frozen image, for the reader to try."""
    from flywheel.data.versions import version_table

    table = version_table(outcome.data.dataset)
    return Path(str(table.loc[table["side"] == Side.FROZEN, "path"].iloc[0]))


def print_summary(console: Console, table: Table, seconds: float) -> None:
    console.print()
    console.print(table, highlight=False)
    console.print(f"\nDone in {duration(seconds)}.", style="bold", highlight=False)


def _commands(console: Console, title: str, commands: list[str]) -> None:
    console.print(title, style="bold")
    for command in commands:
        console.print(f"  {command}", markup=False, highlight=False, soft_wrap=True)


def shown_path(path: Path) -> str:
    """Relative to where the user stands, where that is shorter."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative

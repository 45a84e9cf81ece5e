"""The commands that look whether things are as they were: the ledger's rows, and all that a model came from."""

from typing import Annotated

import typer
from rich.text import Text
from rich.tree import Tree

from flywheel.commands.output import AsJson, Task, app, console, existing_ledger, print_json, say, stop
from flywheel.ledger import Ledger, LedgerError, migrate_ledger
from flywheel.ledger.predictions import open_predictions
from flywheel.lineage.node import LineageError, Node, State, troubles
from flywheel.records import Verdict
from flywheel.settings import Settings

MARKS = {
    State.WHOLE: ("✓", "green"),
    State.CHANGED: ("✗", "red"),
    State.MISSING: ("✗", "red"),
    State.UNCHECKED: ("·", "dim"),
}


@app.command()
def verify_ledger(as_json: AsJson = False) -> None:
    """Tell whether any row of the ledger was changed, removed or slipped in; exit code 1 unless all is proven whole."""
    try:
        report = existing_ledger().verify()
    except LedgerError as error:
        stop(str(error))
    if as_json:
        print_json(report)
    else:
        told = {
            Verdict.PASS: (f"The ledger is whole: {report.rows:,} rows, each as it was written.", "green"),
            Verdict.FAIL: ("The ledger is not as it was written:", "red"),
            Verdict.NOT_ENOUGH_EVIDENCE: (f"The ledger's {report.rows:,} rows fit together, but:", "yellow"),
        }
        say(*told[report.verdict])
        for line in (*(f"  {finding}" for finding in report.findings), *report.notes):
            say(line)
        say(f"ledger {report.ledger_id[:12]}, head {report.head}", style="dim")
    if report.verdict is not Verdict.PASS:
        raise typer.Exit(1)


@app.command()
def migrate() -> None:
    """Bring the ledger's database to the schema of this version. SQLite does so by itself."""
    try:
        where, before, after = migrate_ledger(Settings())
    except LedgerError as error:
        stop(str(error))
    say(f"{where}: schema {after} already." if before == after else f"{where}: schema {before or 'none'} → {after}.")


@app.command()
def explain(
    model: Annotated[
        str, typer.Option("--model", "--MODEL", help="model-…: back to its source, on to its Bentos.")
    ] = "",
    image: Annotated[str, typer.Option("--image", "--IMAGE", help="A file, or an image id: on to its models.")] = "",
    prediction: Annotated[
        str, typer.Option("--prediction", "--PREDICTION", help="An answer's prediction_id: back to its source.")
    ] = "",
    task: Task = None,
    as_json: AsJson = False,
) -> None:
    """Show what came from what, each thing checked by its hash; without one of them named, of the champion.

    The exit code is 1 where anything on the way is no longer as it was, or gone.
    """
    if sum(map(bool, (model, image, prediction))) > 1:
        stop("One of MODEL, IMAGE and PREDICTION expected, several given.")
    ledger, paths = existing_ledger(), Settings().paths
    try:
        if image:
            from flywheel.lineage.image import explain_image

            root = explain_image(image, ledger, open_predictions(Settings()), paths)
        elif prediction:
            from flywheel.lineage.prediction import explain_prediction

            root = explain_prediction(prediction, ledger, open_predictions(Settings()), paths)
        else:
            from flywheel.lineage.model import explain_model

            root = explain_model(model or _champion(ledger, task), ledger, paths)
    except (LineageError, LedgerError) as error:
        stop(str(error))
    wrong = troubles(root)
    if as_json:
        print_json(root)
    else:
        console().print(_tree(root), soft_wrap=False)
        say(
            f"{len(wrong):,} not as they were: {', '.join(each.id for each in wrong)}" if wrong else "All is as it was."
        )
    if wrong:
        raise typer.Exit(1)


def _champion(ledger: Ledger, task: str | None) -> str:
    champion = ledger.champion(task)
    if champion is None:
        stop("No champion yet. 'make run' trains and releases a first model; or name a MODEL or an IMAGE.")
    return champion.model_id


def _tree(node: Node) -> Tree:
    tree = Tree(_line(node), guide_style="dim")
    for child in node.children:
        tree.children.append(_tree(child))
    return tree


def _line(node: Node) -> Text:
    mark, style = MARKS[node.check.state]
    line = Text(f"{mark} ", style=style)
    line.append(f"{node.relation} " if node.relation else "", style="dim")
    line.append(f"{node.kind} {node.id}", style="bold")
    line.append(f"  {node.told}" if node.told else "", style="none")
    line.append(f"  [{node.check.state}: {node.check.told}]", style=style if style != "green" else "dim")
    return line

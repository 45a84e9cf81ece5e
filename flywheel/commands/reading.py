"""The commands that only read. Each opens the ledger, reads, and shows: nothing is made where there is nothing."""

from typing import Annotated

import typer

from flywheel.commands.output import AsJson, Task, app, console, existing_ledger, print_json, stop
from flywheel.commands.tables import champion_panel, champions_table, decision_panel, decisions_table
from flywheel.ledger import Kind, Ledger, LedgerError


@app.command()
def champion(task: Task = None, as_json: AsJson = False) -> None:
    """Show who is champion, since when, and why."""
    ledger = existing_ledger()
    current = ledger.champion(task)
    if current is None:
        stop(f"No champion{f' of {task}' if task else ''} yet. 'make run' trains and releases a first model.")
    decision = ledger.decision(current.decision_id)
    gate = ledger.gate_of_champion(current)
    if as_json:
        print_json({"champion": current, "decision": decision, "gate": gate})
    else:
        console().print(champion_panel(current, decision, gate))


@app.command()
def history(task: Task = None, as_json: AsJson = False) -> None:
    """List all champions of a task, the newest first."""
    ledger = existing_ledger()
    current = ledger.champion(task)
    champions = ledger.history(current.task_id) if current else []
    if as_json:
        print_json(champions)
    elif not champions:
        console().print(_no_champions(task, ledger), markup=False, highlight=False)
    else:
        made_by = {each.decision_id: ledger.decision(each.decision_id) for each in champions}
        console().print(champions_table(champions, made_by))


@app.command()
def decisions(
    kind: Annotated[Kind | None, typer.Option(help="Only decisions of this kind.")] = None,
    task: Annotated[str | None, typer.Option("--task", "--TASK", help="Only decisions on this task.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List what was decided, the newest first."""
    found = existing_ledger().decisions(kind=kind, task_id=task, limit=limit)
    if as_json:
        print_json(found)
    elif not found:
        console().print("No such decisions yet.")
    else:
        console().print(decisions_table(found))


@app.command()
def decision(
    identity: Annotated[str, typer.Argument(metavar="ID", help="dec-…, or how it begins.")], as_json: AsJson = False
) -> None:
    """Show one decision with its inputs, rules and reason."""
    try:
        found = existing_ledger().decision(identity)
    except LedgerError as error:
        stop(str(error))
    if as_json:
        print_json(found)
    else:
        console().print(decision_panel(found))


def _no_champions(task: str | None, ledger: Ledger) -> str:
    others = sorted({each.task_id for each in ledger.history()})
    if task and others:
        return f"No champions of {task}. Tasks that have one: {', '.join(others)}."
    return "No champions yet. 'make run' trains and releases a first model."

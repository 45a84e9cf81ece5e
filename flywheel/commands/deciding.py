"""The commands that decide: what a person does to a champion by hand, on record with name and reason."""

import os
import pwd
from typing import Annotated

import typer

from flywheel.commands.output import AsJson, Task, app, existing_ledger, print_json, say, stop
from flywheel.ledger import LedgerError
from flywheel.records import Release
from flywheel.settings import Settings

Reason = Annotated[str, typer.Option("--reason", "--REASON", help="Why; it stays on record with your login name.")]


@app.command()
def promote(
    model: Annotated[str, typer.Option("--model", "--MODEL", help="model-…, judged and packaged.")] = "",
    reason: Reason = "",
    bento: Annotated[str, typer.Option("--bento", "--BENTO", help="name:version; by default its newest.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a model champion although its gate did not pass: a decision of yours, not of the gate."""
    from flywheel.lineage.node import LineageError
    from flywheel.lineage.release import force_champion

    if not model:
        stop("Which model? MODEL=model-… expected; 'make decisions' lists those that were judged.")
    try:
        release = force_champion(
            model, existing_ledger(), Settings().paths, reason=reason, who=login_name(), bento=bento
        )
    except (LineageError, LedgerError) as error:
        stop(str(error))
    _show(release, "is champion, past its gate", as_json)


@app.command()
def rollback(task: Task = None, reason: Reason = "", as_json: AsJson = False) -> None:
    """Bring the champion before the current one back."""
    from flywheel.lineage.node import LineageError
    from flywheel.lineage.release import restore_previous

    try:
        release = restore_previous(task, existing_ledger(), Settings().paths, reason=reason, who=login_name())
    except (LineageError, LedgerError) as error:
        stop(str(error))
    _show(release, "is champion again", as_json)


def login_name() -> str:
    """Of the user that the process runs as, whatever the environment says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _show(release: Release, what: str, as_json: bool) -> None:
    if as_json:
        print_json(release)
    elif not release.promoted:
        say(release.reason)
    else:
        instead = f" instead of {release.previous_id}" if release.previous_id else ""
        say(f"{release.model_id} {what}{instead}: {release.reason}")
        say(f"decision {release.decision_id} by {login_name()}, task {release.task_id}, Bento {release.bento_tag}")
        say("A service that 'make serve' started answers with it within two seconds; /model tells.")

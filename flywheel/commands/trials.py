"""The commands on a model beside the champion: a canary answers a share of the requests, a shadow only looks."""

from typing import Annotated

import typer

from flywheel.commands.deciding import Reason, login_name
from flywheel.commands.output import Task, app, existing_ledger, say, stop
from flywheel.ledger import Champion, Ledger, LedgerError
from flywheel.ledger.predictions import Role, open_predictions
from flywheel.settings import Settings

Share = Annotated[float, typer.Option("--share", "--SHARE", min=0, max=1, help="Of the requests, from 0 to 1.")]
Model = Annotated[str, typer.Option("--model", "--MODEL", help="model-…, judged and packaged.")]


@app.command()
def canary(model: Model = "", share: Share = 0.1, reason: Reason = "") -> None:
    """Let a model that passed its gate answer a share of the requests, beside the champion."""
    _begin(model, Role.CANARY, share, reason)


@app.command()
def shadow(model: Model = "", share: Share = 1.0, reason: Reason = "") -> None:
    """Let a model look at a share of the images; its answers go to the prediction log only."""
    _begin(model, Role.SHADOW, share, reason)


@app.command()
def end_trial(task: Task = None, reason: Reason = "") -> None:
    """Give all requests back to the champion."""
    champion = _champion(existing_ledger(), task)
    predictions = open_predictions(Settings())
    trial = predictions.trial(champion.task_id)
    if trial is None:
        say(f"{champion.task_id}: no model is on trial.")
        return
    ended = (trial.task_id, trial.model_id, trial.bento_tag)
    predictions.begin_trial(*ended, Role.NONE, 0.0, reason=reason or "ended by hand", who=login_name())
    say(f"{trial.model_id} is no longer {trial.role}; {champion.model_id} answers all requests within two seconds.")


def _begin(model_id: str, role: Role, share: float, reason: str) -> None:
    from flywheel.lineage.node import LineageError
    from flywheel.lineage.release import demand_trial

    if not model_id:
        stop("Which model? MODEL=model-… expected; 'make decisions' lists those that were judged.")
    settings, ledger = Settings(), existing_ledger()
    try:
        task_id, bento_tag = demand_trial(model_id, role, ledger, settings.paths)
        champion = _champion(ledger, task_id)
        if champion.model_id == model_id:
            stop(f"{model_id} is the champion: it answers all requests already.")
        open_predictions(settings).begin_trial(
            task_id, model_id, bento_tag, role, share, reason=reason or "begun by hand", who=login_name()
        )
    except (LineageError, LedgerError) as error:
        stop(str(error))
    what = "answers" if role is Role.CANARY else "looks at"
    say(f"{model_id} {what} {share:.0%} of the requests beside {champion.model_id}, within two seconds.")
    say("'make end-trial' gives them back; /model of the service tells who answers.")


def _champion(ledger: Ledger, task: str | None) -> Champion:
    champion = ledger.champion(task)
    if champion is None:
        stop("No champion yet. 'make run' trains and releases a first model.")
    return champion

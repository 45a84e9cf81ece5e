"""The stages of a release: a trial on live traffic, the promotion, and a watch on the service that takes it up.

A flow calls `release_model`; `train` and `retrain` end in it, too.
"""

import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from flywheel.ledger import Champion, Ledger, LedgerError, open_ledger
from flywheel.ledger.entries import utc_now
from flywheel.ledger.predictions import PredictionLog, Serving, Tally, open_predictions
from flywheel.lineage.checks import artifacts_of
from flywheel.lineage.node import LineageError
from flywheel.lineage.release import demand_releasable, restore_previous
from flywheel.model.folder import read_model
from flywheel.policies import ReleasePolicy
from flywheel.records import Release, Verdict
from flywheel.settings import ReleaseParameters, Settings
from tasks.artifacts import show_release
from tasks.canary import ALIVE_SECONDS, WHO, Candidate, End, Tried, record_trial, try_on_traffic
from tasks.release_artifacts import TrialProgress, show_trial
from tasks.reporting import stage

LOOK_SECONDS = 1.0
FEWEST_FAILURES = 3  # of the service, before a new champion is taken back for them
TRIAL_TIMEOUT_SECONDS = 6 * 3600.0


def run_id() -> str:
    """Of the flow run: who is tried again after a crash finds its own claims."""
    from prefect.runtime import flow_run

    return str(flow_run.id or "")


def release_model(parameters: ReleaseParameters) -> Release:
    """Try the model on live traffic, where there is some; promote it; watch the service take it up."""
    tried = try_model(parameters)
    if tried is not None and tried.end is End.FAILED:
        return held_back(parameters, tried)
    release = promote(parameters.gate_decision, parameters.bento_tag, tried=tried)
    return watch_release(release, parameters.policy) if release.promoted and release.previous_id else release


@stage("canary", "try {parameters.bento_tag} on live traffic", timeout_seconds=TRIAL_TIMEOUT_SECONDS)
def try_model(parameters: ReleaseParameters) -> Tried | None:
    """A share of the requests, until the trial is judged. None where the gate did not pass, there is no champion beside
    whom to try it, or it is the champion itself."""
    settings = Settings()
    ledger = open_ledger(settings)
    gate = demand_releasable(parameters.gate_decision, parameters.bento_tag, ledger, settings.paths)
    champion, model_id = ledger.champion(gate.task_id), gate.inputs["model_id"]
    if gate.verdict is not Verdict.PASS or champion is None or champion.model_id == model_id:
        return None
    candidate = Candidate(champion, model_id, parameters.bento_tag, gate.id)
    progress = TrialProgress(model_id, parameters.canary.most_answers)
    run, patience = run_id(), parameters.policy.patience_seconds
    tried = try_on_traffic(candidate, parameters.canary, patience, ledger, settings, run, progress)
    recorded = record_trial(candidate, tried, parameters.canary, ledger, run)
    show_trial(tried, recorded)
    return replace(tried, decision=recorded.id)


def held_back(parameters: ReleaseParameters, tried: Tried) -> Release:
    """The champion stays: the trial's decision says why."""
    settings = Settings()
    ledger = open_ledger(settings)
    gate = ledger.decision(parameters.gate_decision)
    champion = ledger.champion(gate.task_id)
    name = champion.model_id if champion else None
    reason = f"Not promoted, it failed on live traffic ({tried.decision}): {tried.reason}"
    model_id = gate.inputs["model_id"]
    release = Release(tried.decision, model_id, gate.task_id, parameters.bento_tag, False, name, name, reason)
    show_release(release)
    return release


@stage("release", "release {bento_tag}")
def promote(
    gate_decision: str, bento_tag: str, approval: dict[str, Any] | None = None, tried: Tried | None = None
) -> Release:
    """Make the judged model champion of its task, in one transaction with the decision; or record why not.

    `approval` is what a person said, where one was asked; `tried` what the trial on live traffic came to.
    """
    settings = Settings()
    ledger = open_ledger(settings)
    gate = demand_releasable(gate_decision, bento_tag, ledger, settings.paths)
    model_id, reason = gate.inputs["model_id"], f"It passed its gate {gate.id}: {gate.reason}"
    if approval is not None and approval["approved"]:
        reason = f"Approved by {approval['who']}: {approval['reason'].rstrip('.')}. {reason}"
    if tried is not None:
        what = "It held on live traffic" if tried.end is End.PASSED else "No trial on live traffic"
        reason = f"{reason} {what} ({tried.decision}): {tried.reason}"
    artifacts = artifacts_of(read_model(settings.paths.model(model_id)), settings.paths)
    release = ledger.promote(gate.task_id, model_id, bento_tag, gate.id, reason, artifacts=artifacts, approval=approval)
    show_release(release)
    return release


@dataclass(frozen=True)
class _Service:
    """Workers by what they answer with, of those that are there."""

    new: dict[Serving, Tally]
    old: dict[Serving, Tally]
    refused: str


@stage("watch", "watch the service take up {release.model_id}")
def watch_release(release: Release, policy: ReleasePolicy) -> Release:
    """Go back to the champion before where the service can't serve the new one, or fails with it."""
    settings = Settings()
    ledger = open_ledger(settings)
    predictions = open_predictions(settings)
    champion = ledger.champion(release.task_id)
    if champion is None or champion.decision_id != release.decision_id:
        return release
    began, trouble = time.monotonic(), ""
    while not trouble and time.monotonic() - began < policy.guard_seconds:
        found = _service(predictions, champion, ledger)
        if not found.new and not found.old and not found.refused:
            break  # no service that follows the ledger
        trouble = found.refused or _failing(found)
        time.sleep(LOOK_SECONDS)
    predictions.close()
    return _back(release, trouble, ledger, settings) if trouble else release


def _service(predictions: PredictionLog, champion: Champion, ledger: Ledger) -> _Service:
    since = utc_now() - timedelta(seconds=ALIVE_SECONDS)
    before = ledger.history(champion.task_id)[1:2]
    old = predictions.tallies(before[0].decision_id, since) if before else {}
    servings = predictions.servings(champion.task_id)
    refused = [each.problem for each in servings if each.release_id == champion.decision_id and each.problem]
    return _Service(predictions.tallies(champion.decision_id), old, refused[0] if refused else "")


def _failing(found: _Service) -> str:
    """Where more than one of ten requests fails since it answers."""
    failures = sum(each.failures for each in found.new.values())
    answers = sum(each.answers for each in found.new.values())
    if failures < FEWEST_FAILURES or failures * 10 <= answers + failures:
        return ""
    return f"{failures:,} of {answers + failures:,} requests failed since it answers."


def _back(release: Release, trouble: str, ledger: Ledger, settings: Settings) -> Release:
    reason = f"{release.model_id} was taken back by itself: {trouble}"
    try:
        restored = restore_previous(release.task_id, ledger, settings.paths, reason=reason, who=WHO)
    except (LineageError, LedgerError) as error:
        return replace(release, reason=f"{reason} It could not be taken back: {error}")
    found = replace(restored, model_id=release.model_id, bento_tag=release.bento_tag, promoted=False, reason=reason)
    show_release(found)
    return found

"""The stages of `retrain-classifier`: what `tasks.retraining` does, as Prefect tasks, and what a run shows of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from flywheel.data.extension import extend_version
from flywheel.data.index import build_index
from flywheel.ledger import Decision, open_ledger
from flywheel.ledger.entries import utc_now
from flywheel.ledger.labelled import LabelledAnswer
from flywheel.ledger.leases import Held
from flywheel.records import DatasetVersion, Evaluation, GateVerdict, Parity, Release, as_dict
from flywheel.settings import Recipe, RetrainParameters, Settings
from tasks.artifacts import show_dataset, show_gate, show_validation
from tasks.cooldown import Outcome
from tasks.gate import judge_model
from tasks.labels import Gathered, ask_for_more, gather_labels
from tasks.releasing import run_id
from tasks.reporting import reporter, stage
from tasks.retrain_artifacts import show_labels, show_queue, show_retraining
from tasks.retraining import (
    Cause,
    Refusal,
    as_released,
    cooling,
    end_of,
    find_cause,
    lay_out,
    recipe_of,
    record,
    tried_before,
    usable,
    working_on,
)
from tasks.validation import check_index, quarantine, require
from tasks.verdict_page import verdict_page


def begin_retraining(parameters: RetrainParameters) -> Cause:
    """What asks for it, resolved once, and passed on."""
    settings = Settings()
    return find_cause(parameters, open_ledger(settings), settings, run_id(), utc_now())


def asked_of(cause: Cause, parameters: RetrainParameters) -> RetrainParameters:
    """The parameters that it goes by: its release may ask for others."""
    return as_released(parameters, cause, open_ledger(Settings()))


@contextmanager
def claimed(cause: Cause) -> Iterator[Held | Refusal]:
    """The decision claimed and the task's lease held, or why not."""
    with working_on(cause, Settings()) as held:
        yield held


def cooling_down(cause: Cause, parameters: RetrainParameters) -> Refusal | None:
    return cooling(cause, parameters, open_ledger(Settings()), utc_now())


@stage("gather labels", "gather the labels of {cause.model.id}")
def gather(cause: Cause, parameters: RetrainParameters) -> Gathered:
    """All labels since the release, validated; what is not believed is set aside, with its reason."""
    settings = Settings()
    gathered = gather_labels(cause.champion, cause.model, cause.believed, parameters.labels, settings)
    if gathered.check is not None:
        show_validation(gathered.check, settings.paths)
    show_labels(gathered)
    return gathered


def find_images(gathered: Gathered) -> tuple[LabelledAnswer, ...]:
    return usable(gathered.accepted, Settings().paths)


@stage("ask for labels", "ask for labels of {cause.model.id}")
def ask_for_labels(
    cause: Cause, gathered: Gathered, labelled: tuple[LabelledAnswer, ...], parameters: RetrainParameters
) -> Refusal:
    """Those that would teach most, as many as are lacking."""
    lacking = parameters.policy.labels_needed - len(labelled)
    settings = Settings()
    asked = ask_for_more(cause.champion, cause.model, lacking, settings)
    show_queue(cause.champion, asked, settings)
    told = f"{len(labelled):,} labelled images can teach, {parameters.policy.labels_needed:,} are asked for: "
    told += f"it waits for {lacking:,} labels more. {asked:,} images wait for theirs ('GET /queue', 'POST /feedback')."
    return Refusal(Outcome.WAITS, f"{told} {gathered.summary}")


@stage("extend dataset", "extend {cause.dataset.id}")
def extend_dataset(
    cause: Cause, labelled: tuple[LabelledAnswer, ...], parameters: RetrainParameters
) -> tuple[DatasetVersion, Refusal | None]:
    """The labelled images, indexed and validated as any source, and a draw of the old ones."""
    settings, ledger = Settings(), open_ledger(Settings())
    paths = settings.paths
    index = build_index(lay_out(labelled, paths), paths, reporter().progress)
    checked = check_index(index, parameters.checks, paths)
    show_validation(checked, paths)
    out = quarantine(index, checked, paths)
    require(checked)
    dataset = extend_version(cause.dataset, index, out, parameters.extension, paths, reporter().progress)
    show_dataset(dataset)
    return dataset, tried_before(dataset, cause, ledger)


def plan_recipe(cause: Cause, parameters: RetrainParameters) -> Recipe:
    return recipe_of(cause, parameters, Settings().paths)


@stage("judge", "judge {evaluation.model_id}")
def judge_retrained(
    evaluation: Evaluation, cause: Cause, dataset: DatasetVersion, parameters: RetrainParameters, parity: Parity
) -> GateVerdict:
    """Better under drift, and no worse on the frozen set?"""
    settings = Settings()
    ledger = open_ledger(settings)
    gate = judge_model(evaluation, dataset, cause.champion, parameters.gate, ledger, settings.paths, parity=parity)
    show_gate(gate, evaluation, verdict_page(gate, ledger, settings.paths), settings.paths)
    return gate


def not_now(
    cause: Cause, refusal: Refusal, parameters: RetrainParameters, gathered: Gathered | None = None
) -> Decision:
    """On record, with what it waits for."""
    evidence = {"labels": len(gathered.accepted), "set_aside": len(gathered.set_aside)} if gathered else {}
    decision = record(cause, refusal.outcome, refusal.reason, parameters, open_ledger(Settings()), evidence)
    show_retraining(decision)
    return decision


def end_retraining(
    cause: Cause,
    gathered: Gathered,
    dataset: DatasetVersion,
    gate: GateVerdict,
    release: Release | None,
    parameters: RetrainParameters,
) -> Decision:
    """What became of it; one that did not help begins the cooldown."""
    outcome, reason = end_of(gate, release)
    evidence = {
        "labels": len(gathered.accepted),
        "set_aside": len(gathered.set_aside),
        "dataset_id": dataset.id,
        "new_model_id": gate.model_id,
        "gate_decision_id": gate.id,
        "release": as_dict(release) if release else None,
    }
    decision = record(cause, outcome, reason, parameters, open_ledger(Settings()), evidence)
    show_retraining(decision)
    return decision

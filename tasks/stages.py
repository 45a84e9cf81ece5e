"""Every stage of the flows: a plain function of `tasks` or the core, with this project's settings, as a Prefect task.

A flow calls these and nothing else. They are the only place where the two worlds meet, so that the functions under them
stay callable without Prefect.
"""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from prefect.tasks import exponential_backoff

import tasks.found as found
from flywheel.data.index import build_index
from flywheel.data.sources import fetch_source
from flywheel.data.versions import build_version
from flywheel.ledger import Champion, open_ledger
from flywheel.ledger.reading import gate_of
from flywheel.lineage.release import demand_releasable
from flywheel.model.initial_weights import find_initial_weights
from flywheel.policies import GatePolicy
from flywheel.records import (
    DatasetVersion,
    Evaluation,
    GateVerdict,
    ImageIndex,
    InitialWeights,
    PackagedBento,
    Parity,
    PreparedData,
    Source,
    TrainedModel,
    ValidationResult,
)
from flywheel.settings import DataParameters, Recipe, Settings, TrainingParameters
from tasks.artifacts import (
    TrainingProgress,
    gate_question,
    link_to,
    show_dataset,
    show_gate,
    show_metrics,
    show_report,
    show_validation,
)
from tasks.evaluation import evaluate_model
from tasks.gate import judge_model
from tasks.gate_plan import demand_power
from tasks.gpu_slot import gpu_slot, is_trained
from tasks.packaging import package_model
from tasks.parity import measure_parity
from tasks.probes import probes_of
from tasks.reporting import reporter, stage
from tasks.retries import MOST_TRIES, worth_another_try
from tasks.training import choose_device, train
from tasks.validation import check_index, check_version, quarantine, require
from tasks.verdict_page import plain_words, verdict_page
from tasks.visualize import make_report

FIRST_DELAY_SECONDS = 5.0  # then twice as long, each time
# A stage that hangs ends the run with that reason. They are far above what each takes on a busy laptop.
SERVE_TIMEOUT_SECONDS = 600.0
REPORT_TIMEOUT_SECONDS = 1800.0


def show_check(result: ValidationResult, *_: object) -> None:
    show_validation(result, Settings().paths)


def show_version(version: DatasetVersion, *_: object) -> None:
    show_dataset(version)


def show_evaluation(evaluation: Evaluation, model: TrainedModel, *_: object) -> None:
    show_metrics(evaluation, model)


@stage(
    "fetch source",
    "fetch {parameters.source_name}",
    retries=MOST_TRIES,
    retry_delay_seconds=exponential_backoff(backoff_factor=FIRST_DELAY_SECONDS),
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_another_try,
)
def fetch(parameters: DataParameters) -> Source:
    """The folder of class folders that the user asked for, downloaded or unpacked where need be."""
    return fetch_source(parameters.source, Settings(), reporter().progress)


@stage("index", "index {source.name}", find=found.index_images)
def index_images(source: Source) -> ImageIndex:
    """One row an image."""
    return build_index(source, Settings().paths, reporter().progress)


@stage("validate index", "validate {index.id}", find=found.validate_index, show=show_check)
def validate_index(index: ImageIndex, parameters: DataParameters) -> ValidationResult:
    """The index's suite; a critical finding ends the run here."""
    paths = Settings().paths
    result = check_index(index, parameters, paths)
    show_validation(result, paths)
    quarantine(index, result, paths)  # first: the error below sends the reader to this list
    require(result)
    return result


@stage("make dataset", "make a dataset version of {index.id}", find=found.make_dataset, show=show_version)
def make_dataset(index: ImageIndex, check: ValidationResult, parameters: DataParameters) -> DatasetVersion:
    """The images that passed, packed; those that did not are listed in the quarantine."""
    paths = Settings().paths
    version = build_version(index, quarantine(index, check, paths), parameters, paths, reporter().progress)
    show_dataset(version)
    return version


@stage("validate dataset", "validate {dataset.id}", find=found.validate_dataset, show=show_check)
def validate_dataset(dataset: DatasetVersion, parameters: DataParameters) -> ValidationResult:
    """The finished version's suite; a critical finding ends the run here."""
    paths = Settings().paths
    result = check_version(dataset, parameters, paths)
    show_validation(result, paths)
    require(result)
    return result


def champion_of(task_id: str) -> Champion | None:
    """Who is champion at the flow's start: resolved once, and passed on."""
    return open_ledger(Settings()).champion(task_id)


def plan_gate(
    dataset: DatasetVersion, champion: Champion | None, parameters: TrainingParameters, initial: InitialWeights | None
) -> None:
    """Refuse to train what the gate could hardly promote; a model that is trained already is only judged."""
    settings = Settings()
    chosen = choose_device(parameters.device)
    if not is_trained(dataset, parameters.recipe, chosen, settings.paths, initial):
        demand_power(dataset, champion, parameters.gate, open_ledger(settings), settings.paths)


@stage("find weights", "find the first weights of {recipe.model}")
def find_weights(recipe: Recipe) -> InitialWeights | None:
    """The file that training begins with, from a path, the hub's local cache or the hub."""
    return find_initial_weights(recipe)


@stage("train", "train {recipe.model} on {dataset.id}", find=found.train_model)
def train_model(
    dataset: DatasetVersion, recipe: Recipe, device: str, initial: InitialWeights | None = None
) -> TrainedModel:
    """The model of this dataset and recipe, trained in a process of its own unless it is there already."""
    paths, chosen = Settings().paths, choose_device(device)
    listen = TrainingProgress(reporter().training)
    with nullcontext() if is_trained(dataset, recipe, chosen, paths, initial) else gpu_slot(chosen):
        return train(dataset, recipe, chosen, paths, listen, initial=initial)


@stage("evaluate", "evaluate {model.id}", find=found.measure, show=show_evaluation)
def measure(model: TrainedModel, dataset: DatasetVersion) -> Evaluation:
    """The model on the frozen side."""
    evaluation = evaluate_model(model, dataset, Settings().paths, progress=reporter().progress)
    show_metrics(evaluation, model)
    return evaluation


@stage("package", "package {model.id}", find=found.package)
def package(model: TrainedModel, evaluation: Evaluation) -> PackagedBento:
    """The model as a Bento, which can be built before its verdict: the gate judges how it answers, too."""
    return replace(package_model(model, evaluation, Settings().paths), smoke_test="")


@stage("parity", "serve {bento.tag} and compare", timeout_seconds=SERVE_TIMEOUT_SECONDS)
def serve_and_compare(
    bento: PackagedBento, model: TrainedModel, dataset: DatasetVersion
) -> tuple[PackagedBento, Parity]:
    """The Bento, served, must answer as the trained model does, in all forms that clients send; the gate judges it."""
    parity = measure_parity(bento, model, probes_of(dataset, Settings().paths))
    return replace(bento, smoke_test=parity.summary), parity


@stage("judge", "judge {evaluation.model_id}")
def judge(
    evaluation: Evaluation, champion: Champion | None, dataset: DatasetVersion, policy: GatePolicy, parity: Parity
) -> GateVerdict:
    """The gate's verdict, recorded in the ledger. A fail is a verdict, not an error."""
    settings = Settings()
    ledger = open_ledger(settings)
    gate = judge_model(evaluation, dataset, champion, policy, ledger, settings.paths, parity=parity)
    show_gate(gate, evaluation, verdict_page(gate, ledger, settings.paths), settings.paths)
    return gate


@stage("report", "report on {model.id}", timeout_seconds=REPORT_TIMEOUT_SECONDS)
def report_on(
    model: TrainedModel,
    data: PreparedData,
    evaluation: Evaluation,
    gate: GateVerdict,
    bento: PackagedBento,
    champion: Champion | None,
    parameters: TrainingParameters,
) -> Path:
    """Figures and the self-contained page."""
    paths = Settings().paths
    page = make_report(model, data, evaluation, gate, bento.tag, paths, champion=champion, parameters=parameters)
    show_report(page, model, bento.tag, gate, paths)
    return page


def told_gate(gate_decision: str, bento_tag: str) -> str:
    """A gate's verdict in markdown, for who is asked. Raises LineageError where no answer could release it."""
    settings = Settings()
    ledger = open_ledger(settings)
    decision = demand_releasable(gate_decision, bento_tag, ledger, settings.paths)
    gate = gate_of(decision)
    page = verdict_page(gate, ledger, settings.paths)
    return gate_question(gate, plain_words(decision), link_to(page, settings.paths))

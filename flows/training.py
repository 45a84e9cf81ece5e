"""`train-classifier`: from a source of images to a judged model in a Bento. It never moves the champion.

The source is fetched and indexed; the index is validated, and rows that fail are quarantined; what is left becomes a
dataset version, validated in turn. A model is trained on it, measured on the frozen side, packaged as a Bento, served
to see that it answers as it was trained, judged on all that against the policy and the champion, and reported.
"""

from prefect import flow

from flows.naming import with_short_source
from flows.parameters import takes
from flywheel.data.sources import demand_source
from flywheel.model.initial_weights import pack_for
from flywheel.records import PreparedData, TrainingOutcome
from flywheel.settings import DataParameters, TrainingParameters
from tasks.alone import alone
from tasks.reporting import stage_seconds
from tasks.retries import stop_after_crashes
from tasks.stages import (
    champion_of,
    fetch,
    find_weights,
    index_images,
    judge,
    make_dataset,
    measure,
    package,
    plan_gate,
    report_on,
    serve_and_compare,
    train_model,
    validate_dataset,
    validate_index,
)
from tasks.training import demand_device, demand_model


def prepare(parameters: DataParameters) -> PreparedData:
    """The data half of training; it stops at the first critical finding."""
    source = fetch(parameters)
    index = index_images(source)
    index_check = validate_index(index, parameters)
    dataset = make_dataset(index, index_check, parameters)
    dataset_check = validate_dataset(dataset, parameters)
    return PreparedData(source, index, dataset, (index_check, dataset_check))


@flow(name="prepare-data", flow_run_name=with_short_source("prepare {source}"))
@takes(DataParameters)
def prepare_data(parameters: DataParameters) -> PreparedData:
    """Make the dataset version of a source, and stop there."""
    return prepare(parameters)


@flow(name="train-classifier", flow_run_name=with_short_source("train {model} on {source}"))
@alone
@takes(TrainingParameters)
def train_classifier(parameters: TrainingParameters) -> TrainingOutcome:
    """Train, package and judge a model; the champion stays who it is."""
    stop_after_crashes()
    demand_device(parameters.device)
    demand_source(parameters.data.source)
    with stage_seconds() as seconds:
        initial = find_weights(parameters.recipe) if parameters.recipe.begins_with_weights else None
        packing = pack_for(parameters.data, initial)
        demand_model(parameters.recipe, packing.packed_size, initial)
        data = prepare(packing)
        champion = champion_of(data.dataset.task_id)
        plan_gate(data.dataset, champion, parameters, initial)
        model = train_model(data.dataset, parameters.recipe, parameters.device, initial)
        evaluation = measure(model, data.dataset)
        bento, parity = serve_and_compare(package(model, evaluation), model, data.dataset)
        gate = judge(evaluation, champion, data.dataset, parameters.gate, parity)
        report = report_on(model, data, evaluation, gate, bento, champion, parameters)
    return TrainingOutcome(data, model, evaluation, gate, bento, report, seconds)

"""`retrain-classifier`: from a decision that asks for it, or the calendar, to a model that helps, or a reason why not.

The decision is claimed, so that nothing is acted on twice. Labels that came since the release are judged; with enough
that are believed, they and a draw of the old images become a new dataset version, part of them held out to judge. The
champion's weights learn on, and the gate asks whether the new model is better under drift and no worse on the frozen
set. One that is goes through the release: a trial on live traffic, the promotion, the watch. What became of it is a
decision, also that nothing did.
"""

from prefect import flow
from prefect.states import Completed, State

from flows.parameters import takes
from flywheel.ledger import Decision
from flywheel.records import Verdict
from flywheel.settings import ReleaseParameters, RetrainParameters
from tasks.alone import alone
from tasks.relearning import (
    ask_for_labels,
    asked_of,
    begin_retraining,
    claimed,
    cooling_down,
    end_retraining,
    extend_dataset,
    find_images,
    gather,
    judge_retrained,
    not_now,
    plan_recipe,
)
from tasks.releasing import release_model
from tasks.retraining import NothingToRetrain, Refusal, demand_lease
from tasks.retries import stop_after_crashes
from tasks.stages import find_weights, measure, package, serve_and_compare, train_model, validate_dataset


@flow(name="retrain-classifier", flow_run_name="retrain")
@alone
@takes(RetrainParameters)
def retrain_classifier(parameters: RetrainParameters) -> "Decision | State[str]":
    """Retrain the champion, where something asks for it and there is something to learn from."""
    stop_after_crashes()
    try:
        cause = begin_retraining(parameters)
    except NothingToRetrain as nothing:  # a calendar comes round whether there is a champion or not
        return Completed(message=str(nothing), name="NothingToRetrain")
    parameters = asked_of(cause, parameters)
    with claimed(cause) as held:
        if isinstance(held, Refusal):
            return not_now(cause, held, parameters)
        if (refusal := cooling_down(cause, parameters)) is not None:
            return not_now(cause, refusal, parameters)
        gathered = gather(cause, parameters)
        labelled = find_images(gathered)
        if len(labelled) < parameters.policy.labels_needed:
            return not_now(cause, ask_for_labels(cause, gathered, labelled, parameters), parameters, gathered)
        dataset, refusal = extend_dataset(cause, labelled, parameters)
        if refusal is not None:
            return not_now(cause, refusal, parameters, gathered)
        validate_dataset(dataset, parameters.checks)
        recipe = plan_recipe(cause, parameters)
        model = train_model(dataset, recipe, parameters.device, find_weights(recipe))
        evaluation = measure(model, dataset)
        bento, parity = serve_and_compare(package(model, evaluation), model, dataset)
        gate = judge_retrained(evaluation, cause, dataset, parameters, parity)
        demand_lease(held)
        release = None
        if gate.verdict is Verdict.PASS:
            asked = ReleaseParameters(
                gate_decision=gate.id, bento_tag=bento.tag, canary=parameters.canary, policy=parameters.release
            )
            release = release_model(asked)
        return end_retraining(cause, gathered, dataset, gate, release, parameters)

"""A flow's parameters stand flat in Prefect's form, and what is out of its range is refused with field and range."""

import inspect
from typing import Any

import pytest
from prefect.utilities.schema_tools import ValidationError, validate

from flows.approval import approve_promotion
from flows.monitoring import monitor_classifier
from flows.parameters import ParameterError, accepted, flat, nested, options, takes
from flows.rehearsal import rehearse
from flows.release import release_classifier
from flows.retraining import retrain_classifier
from flows.rollback import rollback_classifier
from flows.training import prepare_data, train_classifier
from flywheel.presets import PRESETS
from flywheel.settings import (
    ApprovalParameters,
    DataParameters,
    MonitorParameters,
    RehearsalParameters,
    ReleaseParameters,
    RetrainParameters,
    RollbackParameters,
    TrainingParameters,
)
from tests.deployments.test_prefect_yaml import DEPLOYMENTS

MODELS = {
    train_classifier: TrainingParameters,
    release_classifier: ReleaseParameters,
    approve_promotion: ApprovalParameters,
    prepare_data: DataParameters,
    monitor_classifier: MonitorParameters,
    retrain_classifier: RetrainParameters,
    rollback_classifier: RollbackParameters,
    rehearse: RehearsalParameters,
}
FLOWS = {flow.fn.__name__: flow for flow in MODELS}


def schema(flow: Any = train_classifier) -> dict[str, Any]:
    return dict(flow.parameters.model_dump())


@pytest.mark.parametrize("flow", MODELS, ids=lambda flow: flow.name)
def test_a_flows_form_has_every_field_with_its_meaning_in_order(flow: Any) -> None:
    form = schema(flow)["properties"]
    fields = options(MODELS[flow])
    assert sorted(form, key=lambda name: form[name]["position"]) == list(fields)
    for name, (_, field) in fields.items():
        assert form[name]["description"].startswith(field.description)


def test_flat_and_nested_are_each_others_reverse() -> None:
    for preset in PRESETS.values():
        parameters = preset.with_options({})
        assert TrainingParameters.model_validate(nested(TrainingParameters, flat(parameters))) == parameters
        validate(flat(parameters), schema(), raise_on_error=True)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda each: each["name"])
def test_a_deployments_parameters_are_in_its_form(deployment: dict[str, Any]) -> None:
    form = schema(FLOWS[deployment["entrypoint"].rpartition(":")[2]])
    assert set(deployment.get("parameters") or {}) <= set(form["properties"])
    validate(deployment.get("parameters") or {}, {**form, "required": []}, raise_on_error=True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epochs": 0}, "field 'epochs'. Failure reason: 0 is not one of ['a whole number from 1 to 1000']"),
        (
            {"source": ""},
            "field 'source'. Failure reason: '' is not one of ['auto, cifar10, digits, or the path of a folder or "
            "archive of class folders']",
        ),
        ({"epochs": "x"}, "'x' is not one of ['a whole number from 1 to 1000']"),
        (
            {"learning_rate": 0},
            "field 'learning_rate'. Failure reason: 0 is not one of ['a number above 0, at most 10']",
        ),
        ({"warmup": 1.0}, "1.0 is not one of ['a number from 0, below 1']"),
        ({"subset": 1}, "1 is not one of ['a whole number from 2 to 100000000, or null']"),
        ({"weights": "/etc/passwd"}, "'/etc/passwd' is not one of ['the path of a .safetensors file, or nothing']"),
        ({"schedule": "zigzag"}, "'zigzag' is not one of ['triangle', 'cosine', 'constant']"),
    ],
)
def test_prefects_own_check_names_field_and_range(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        validate(given, schema(), raise_on_error=True)
    assert said in str(caught.value)


def test_every_bound_of_the_form_is_told_in_words() -> None:
    for name, (_, field) in options(TrainingParameters).items():
        bounded = [bound for bound in field.metadata if hasattr(bound, "ge") or hasattr(bound, "gt")]
        assert bool(bounded or field.json_schema_extra) == bool(accepted(field)), name


def test_a_function_of_a_model_is_called_with_its_fields() -> None:
    @takes(TrainingParameters)
    def epochs_and_source(parameters: TrainingParameters) -> tuple[int, str, int]:
        """What it is for."""
        return parameters.recipe.epochs, parameters.data.source, parameters.recipe.batch_size

    assert epochs_and_source(epochs=2, source="digits") == (2, "digits", TrainingParameters().recipe.batch_size)
    assert epochs_and_source.__doc__ == "What it is for."
    assert list(inspect.signature(epochs_and_source).parameters) == list(options(TrainingParameters))
    with pytest.raises(ValueError, match="at most 2, the number of epochs"):
        epochs_and_source(epochs=2, head_epochs=3)


def test_what_one_field_says_against_another_is_told_in_a_sentence() -> None:
    @takes(TrainingParameters)
    def made(parameters: TrainingParameters) -> TrainingParameters:
        return parameters

    with pytest.raises(ParameterError, match=r"^head_epochs=50: at most 5, the number of epochs, expected\.$"):
        made(epochs=5, head_epochs=50)

"""What prefect.yaml names exists, and its presets are those of `make run`."""

import ast
from typing import Any

import pytest
import yaml

from deployments.automations import SETTLED_SECONDS, SILENT_SECONDS, crashed_runs, silent_runs
from deployments.registration import FLOWS, PREFECT_YAML
from deployments.stack import HEARTBEAT_SECONDS, POOL
from flows.parameters import nested
from flywheel.presets import PRESETS
from flywheel.settings import PROJECT, TrainingParameters

DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load(PREFECT_YAML.read_text(encoding="utf-8"))["deployments"]
TRAINING = [each for each in DEPLOYMENTS if each["entrypoint"] == "flows.training:train_classifier"]
OWN_SOURCE = {"quickstart": "auto", "cifar10": "cifar10", "finetune": "auto"}


def deployed(name: str) -> dict[str, Any]:
    """The parameters that stand in the file."""
    return dict(next(each for each in DEPLOYMENTS if each["name"] == name)["parameters"])


def test_the_deployments_that_are_promised_are_there() -> None:
    assert {each["name"] for each in TRAINING} == {"quickstart", "cifar10", "finetune", "folder"}


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda each: each["name"])
def test_each_runs_an_existing_flow_alone_on_the_pool(deployment: dict[str, Any]) -> None:
    module, _, function = deployment["entrypoint"].partition(":")
    tree = ast.parse((PROJECT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    flow = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
    assert "alone" in {ast.unparse(decorator) for decorator in flow.decorator_list}
    assert "concurrency_limit" not in deployment, "it cancels whichever it hears of last"
    assert deployment["work_pool"]["name"] == POOL
    assert deployment["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == str(
        HEARTBEAT_SECONDS
    )


@pytest.mark.parametrize("deployment", TRAINING, ids=lambda each: each["name"])
def test_its_parameters_are_accepted(deployment: dict[str, Any]) -> None:
    TrainingParameters.model_validate(nested(TrainingParameters, deployment["parameters"]))


@pytest.mark.parametrize("name", OWN_SOURCE)
def test_a_preset_is_the_same_by_deployment_and_by_make_run(name: str) -> None:
    expected = PRESETS[name].with_options({"data": {"source": OWN_SOURCE[name]}})
    assert TrainingParameters.model_validate(nested(TrainingParameters, deployed(name))) == expected


def test_a_run_is_silent_only_after_several_missed_heartbeats() -> None:
    rule = silent_runs(FLOWS)
    assert rule.trigger.within.total_seconds() == SILENT_SECONDS
    assert SILENT_SECONDS > 3 * HEARTBEAT_SECONDS


def test_only_runs_of_deployments_are_tried_again_once_the_crash_has_settled() -> None:
    rule = crashed_runs(["quickstart"])
    related = rule.model_dump(mode="json")["trigger"]["match_related"]
    assert related == {"prefect.resource.role": "deployment", "prefect.resource.name": ["quickstart"]}
    assert rule.trigger.within.total_seconds() == SETTLED_SECONDS
    assert SETTLED_SECONDS > 10  # the worker's second report of the same crash

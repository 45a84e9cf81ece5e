"""What the server must know before a worker starts: the work pool, the GPU's slot, the deployments, the automations."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import cache, cached_property
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from deployments.processes import ProcessError
from deployments.stack import POOL, Stack
from flywheel.identity import NAME_DIGITS, digest, digest_of_file
from flywheel.settings import PROJECT

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

PREFECT_YAML = PROJECT / "deployments" / "prefect.yaml"
FLOWS = (
    "train-classifier",
    "release-classifier",
    "prepare-data",
    "monitor-classifier",
    "retrain-classifier",
    "rollback-classifier",
    "rehearse",
)
DEPLOY_SECONDS = 300.0


class Registration:
    """`deployments/prefect.yaml`, and what a server holds of it. The environment must name the server already."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    @cached_property
    def names(self) -> list[str]:
        """The deployments by their names in the file, in order."""
        return [entry["name"] for entry in yaml.safe_load(PREFECT_YAML.read_text(encoding="utf-8"))["deployments"]]

    @cached_property
    def version(self) -> str:
        """The hash of all that a deployment's form and parameters come from; unchanged, nothing is deployed again."""
        core = PROJECT / "flywheel"
        files = [PREFECT_YAML, core / "settings.py", core / "policies.py", *sorted((PROJECT / "flows").glob("*.py"))]
        return digest([str(PROJECT), version_of("timm"), *(digest_of_file(file) for file in files)])[:NAME_DIGITS]

    def register(self, client: "SyncPrefectClient") -> bool:
        """Make what is missing. Whether the deployments were registered anew; False where they stood already."""
        from deployments.automations import make_automations
        from tasks.gpu_slot import make_limit

        make_limit()
        make_pool(client)
        stood = {each.name for each in client.read_deployments() if each.version == self.version}
        missing = bool(set(self.names) - stood)
        if missing:
            deploy(self._stack, self.version)
            make_models_known(client, self.names)
        make_automations(client, FLOWS, self.names)
        return missing


def make_pool(client: "SyncPrefectClient") -> None:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker

    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))


def deploy(stack: Stack, version: str, file: Path = PREFECT_YAML) -> None:
    """`prefect deploy --all`. Raises ProcessError with what it said."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
    environment = {**stack.environment(), "FLYWHEEL_DEPLOYED_VERSION": version, "COLUMNS": "160"}
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=DEPLOY_SECONDS, check=False
    )
    if done.returncode != 0:
        raise ProcessError(f"deployments: 'prefect deploy' failed.\n{done.stdout}{done.stderr}")


def make_models_known(client: "SyncPrefectClient", names: Sequence[str]) -> None:
    """Let the server refuse a model's name that timm has not, before a run is made.

    Here and not in the flow's own signature, since whoever imports the flow would wait for timm.
    """
    from prefect.client.schemas.actions import DeploymentUpdate

    for each in client.read_deployments():
        schema = each.parameter_openapi_schema or {}
        if each.name in names and "model" in schema.get("properties", {}):
            schema["properties"]["model"].update(models_schema())
            client.update_deployment(each.id, DeploymentUpdate(parameter_openapi_schema=schema))


@cache
def models_schema() -> dict[str, Any]:
    """What a model's name must look like, with or without a tag of its weights; else what was expected, in words."""
    from flywheel.model.architecture import OWN, register

    register()
    import timm

    known = "|".join(re.escape(name) for name in timm.list_models())
    own = ", ".join(entrypoint.__name__ for entrypoint in OWN)
    # a schema can't tell which names are near to the one that was given
    near = "'make run MODEL=...' with this name proposes near ones"
    return {
        "if": {"pattern": rf"^({known})(\..+)?$"},
        "else": {"enum": [f"one of flywheel's own, {own}, or a name that timm.list_models() has; {near}"]},
    }


def use_server(stack: Stack) -> None:
    """Lead this process to the stack's server; before Prefect is imported, which reads it then."""
    os.environ.update(stack.environment())

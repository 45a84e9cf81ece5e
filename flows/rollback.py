"""`rollback-classifier`: the champion before the current one is back in service, by a person's decision."""

from prefect import flow

from flows.parameters import takes
from flywheel.records import Release
from flywheel.settings import RollbackParameters
from tasks.alone import alone
from tasks.going_back import go_back


@flow(name="rollback-classifier", flow_run_name="roll back")
@alone
@takes(RollbackParameters)
def rollback_classifier(parameters: RollbackParameters) -> Release:
    """A running service answers with it within two seconds."""
    return go_back(parameters.task, parameters.who, parameters.reason)

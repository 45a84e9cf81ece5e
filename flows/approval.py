"""`approve-promotion`: a model that passed its gate, shown to a person, who lets it through or not.

The run suspends with the verdict as its form in the Prefect UI; nothing waits meanwhile. It is a flow of its own, out
of the rule that marks silent runs as crashed: a suspended run is silent.
"""

from typing import Any

from prefect import flow, get_run_logger
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import ConfigDict, Field

from flows.parameters import takes
from flywheel.records import Release
from flywheel.settings import ApprovalParameters
from tasks.alone import alone
from tasks.releasing import promote
from tasks.stages import told_gate

WAITING = (
    "This promotion waits for a person, at most %g hours: open this run in the Prefect UI, press Resume, turn the "
    "switch Approve on (off is a no), give a name and a reason, and Submit."
)


def _all_are_asked(form: dict[str, Any]) -> None:
    form["required"] = list(form["properties"])


class Approval(RunInput):
    """What the person is asked. The form names every field as required: it calls any other one optional, and the switch
    that decides is none, though it is off until it is turned on."""

    model_config = ConfigDict(json_schema_extra=_all_are_asked)

    approve: bool = Field(default=False, description="On: it becomes champion. Off, as it is now: the champion stays.")
    name: str = Field(min_length=1, max_length=200, description="Who decides. It stays on record.")
    reason: str = Field(min_length=1, max_length=2000, description="Why. It stays on record.")


@flow(name="approve-promotion", flow_run_name="approve {bento_tag}")
@alone
@takes(ApprovalParameters)
def approve_promotion(parameters: ApprovalParameters) -> Release:
    """Wait for a person, then release or refuse; both are recorded with the name and the reason."""
    get_run_logger().info(WAITING, parameters.wait_hours)
    asked = Approval.with_initial_data(description=told_gate(parameters.gate_decision, parameters.bento_tag))
    answer = suspend_flow_run(wait_for_input=asked, timeout=int(parameters.wait_hours * 3600), key="approval")
    said = {"approved": answer.approve, "who": answer.name.strip(), "reason": answer.reason.strip()}
    return promote(parameters.gate_decision, parameters.bento_tag, said)

"""`release-classifier`: makes a model that passed its gate the champion of its task, or says why not.

It is the only flow that moves a champion, in one transaction with the decision that names the gate's.
"""

from prefect import flow

from flows.parameters import takes
from flywheel.records import Release
from flywheel.settings import ReleaseParameters
from tasks.alone import alone
from tasks.stages import promote


@flow(name="release-classifier", flow_run_name="release {bento_tag}")
@alone
@takes(ReleaseParameters)
def release_classifier(parameters: ReleaseParameters) -> Release:
    """Promote on the verdict. A model that did not pass stays out, and that is no failure of the run."""
    return promote(parameters.gate_decision, parameters.bento_tag)

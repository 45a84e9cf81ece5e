"""`release-classifier`: makes a model that passed its gate the champion of its task, or says why not.

It answers a share of the requests first, where a service has traffic, and is dropped as soon as it does harm. Then the
champion moves, in one transaction with the decision that names the gate's; a service takes it up without a failed
request, and where it can't, the champion before comes back. No other flow moves a champion.
"""

from prefect import flow

from flows.parameters import takes
from flywheel.records import Release
from flywheel.settings import ReleaseParameters
from tasks.alone import alone
from tasks.releasing import release_model
from tasks.retries import stop_after_crashes


@flow(name="release-classifier", flow_run_name="release {bento_tag}")
@alone
@takes(ReleaseParameters)
def release_classifier(parameters: ReleaseParameters) -> Release:
    """Promote on the verdict. A model that did not pass stays out, and that is no failure of the run."""
    stop_after_crashes()
    return release_model(parameters)

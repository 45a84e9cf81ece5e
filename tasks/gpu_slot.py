"""One fit at a time on the GPU: a global concurrency limit of the Prefect server, held only while fitting."""

from collections.abc import Iterator
from contextlib import contextmanager

from flywheel.model.folder import ModelError, model_id, read_model
from flywheel.paths import Paths
from flywheel.records import DatasetVersion, InitialWeights
from flywheel.settings import Recipe

LIMIT = "gpu"
SLOTS = 1
# A killed holder's slot comes back after this; the holder renews it while it lives.
LEASE_SECONDS = 60.0


@contextmanager
def gpu_slot(device: str) -> Iterator[None]:
    """Hold the slot where `device` is cuda; nothing is held on a CPU. Waits until the slot is free."""
    if device != "cuda":
        yield
        return
    from prefect.concurrency.sync import concurrency

    make_limit()
    # A server that is away for a moment doesn't end a training that runs.
    with concurrency(LIMIT, occupy=1, strict=True, lease_duration=LEASE_SECONDS, raise_on_lease_renewal_failure=False):
        yield


def make_limit() -> None:
    """The limit, where the server has none yet; one that a user changed stays as it is."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(LIMIT)
        except ObjectNotFound:
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=LIMIT, limit=SLOTS))


def is_trained(
    dataset: DatasetVersion, recipe: Recipe, device: str, paths: Paths, initial: InitialWeights | None = None
) -> bool:
    """Whether there is nothing left to fit, so that nobody waits for a GPU that isn't needed."""
    try:
        name = model_id(dataset, recipe, device, initial.sha256 if initial else "")
        return bool(read_model(paths.model(name)))
    except ModelError:
        return False

"""Which dataset versions a model learned from: its own, and those of the models whose weights it began with."""

from flywheel.data.versions import load_version
from flywheel.model.folder import MANIFEST, ModelError, read_manifest, read_model
from flywheel.paths import Paths
from flywheel.records import DatasetVersion


def learned_from(model_id: str, paths: Paths) -> dict[str, DatasetVersion]:
    """By the model that learned from it, itself first. Raises ModelError or VersionError where one is gone."""
    found: dict[str, DatasetVersion] = {}
    next_id: str | None = model_id
    while next_id is not None and next_id not in found:
        model = read_model(paths.model(next_id))
        found[next_id] = load_version(paths.dataset(model.dataset_id))
        next_id = _began_as(next_id, paths)
    return found


def _began_as(model_id: str, paths: Paths) -> str | None:
    """The model of this project that it began as; None for weights from elsewhere, or drawn by the seed."""
    initial = read_manifest(paths.model(model_id)).get("training", {}).get("initial_weights")
    if not initial:
        return None
    for manifest in sorted(paths.models.glob(f"model-*/{MANIFEST}")):
        try:
            if read_model(manifest.parent).weights_sha256 == initial["sha256"]:
                return manifest.parent.name
        except ModelError:
            continue
    return None

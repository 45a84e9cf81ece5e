"""What each stage would make, where it lies on disk already for these very inputs; None where it has to be made.

The manifests say so, read anew at every run: whatever a cache remembers, a folder that was deleted or damaged is none.
The arguments are those of the stage of the same name in `tasks.stages`.
"""

from dataclasses import replace

from flywheel.data.index import find_index
from flywheel.data.versions import find_version
from flywheel.evaluation.evaluate import recorded_evaluation
from flywheel.model.folder import ModelError, model_id, read_model
from flywheel.records import (
    DatasetVersion,
    Evaluation,
    ImageIndex,
    InitialWeights,
    PackagedBento,
    Source,
    TrainedModel,
    ValidationResult,
)
from flywheel.settings import DataParameters, Recipe, Settings
from tasks.packaging import find_bento
from tasks.training import choose_device
from tasks.validation import find_index_check, find_version_check, quarantined_rows


def index_images(source: Source) -> ImageIndex | None:
    return find_index(source, Settings().paths)


def validate_index(index: ImageIndex, parameters: DataParameters) -> ValidationResult | None:
    return _passed(find_index_check(index, parameters, Settings().paths))


def make_dataset(index: ImageIndex, check: ValidationResult, parameters: DataParameters) -> DatasetVersion | None:
    return find_version(index, quarantined_rows(check), parameters, Settings().paths)


def validate_dataset(dataset: DatasetVersion, parameters: DataParameters) -> ValidationResult | None:
    return _passed(find_version_check(dataset, parameters, Settings().paths))


def train_model(
    dataset: DatasetVersion, recipe: Recipe, device: str, initial: InitialWeights | None = None
) -> TrainedModel | None:
    name = model_id(dataset, recipe, choose_device(device), initial.sha256 if initial else "")
    try:
        return read_model(Settings().paths.model(name))
    except ModelError:
        return None


def measure(model: TrainedModel, dataset: DatasetVersion) -> Evaluation | None:
    return recorded_evaluation(model.id, dataset, Settings().paths)


def package(model: TrainedModel, evaluation: Evaluation) -> PackagedBento | None:  # noqa: ARG001
    bento = find_bento(model, Settings().paths)
    return bento and replace(bento, smoke_test="")  # it has none when it is made


def _passed(result: ValidationResult | None) -> ValidationResult | None:
    """A result that stops the run stops it again, with its message: the stage says so, no cache."""
    return result if result is not None and result.passed else None

"""Measure a model on the frozen set of a dataset version, once."""

from pathlib import Path

from flywheel.evaluation.evaluate import evaluate, recorded_evaluation
from flywheel.paths import Paths
from flywheel.progress import Progress, silent
from flywheel.records import DatasetVersion, Evaluation, TrainedModel


def evaluate_model(
    model: TrainedModel, version: DatasetVersion, paths: Paths, device: str = "cpu", progress: Progress = silent
) -> Evaluation:
    """The model measured on the version's frozen set; a valid record of it is returned without loading the model."""
    recorded = recorded_evaluation(model.id, version, paths)
    return recorded or _evaluate_folder(model.folder, version, paths, device, progress)


def evaluation_of(
    model_id: str, version: DatasetVersion, paths: Paths, device: str = "cpu", progress: Progress = silent
) -> Evaluation:
    """A model of this project, named by its id, on the version's frozen set: from its record, or measured now."""
    recorded = recorded_evaluation(model_id, version, paths)
    return recorded or _evaluate_folder(paths.model(model_id), version, paths, device, progress)


def _evaluate_folder(
    folder: Path, version: DatasetVersion, paths: Paths, device: str, progress: Progress
) -> Evaluation:
    from flywheel.model.inference import load_model

    return evaluate(load_model(folder, device), version, paths, progress=progress)

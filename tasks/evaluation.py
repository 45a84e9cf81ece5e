"""Measure a model on the frozen set of a dataset version, once."""

from flywheel.evaluation.evaluate import evaluate, recorded_evaluation
from flywheel.paths import Paths
from flywheel.progress import Progress, silent
from flywheel.records import DatasetVersion, Evaluation, TrainedModel


def evaluate_model(
    model: TrainedModel, version: DatasetVersion, paths: Paths, device: str = "cpu", progress: Progress = silent
) -> Evaluation:
    """The model measured on the version's frozen set; a valid record of it is returned without loading the model."""
    recorded = recorded_evaluation(model.id, version, paths)
    if recorded is not None:
        return recorded
    from flywheel.model.inference import load_model

    return evaluate(load_model(model.folder, device), version, paths, progress=progress)

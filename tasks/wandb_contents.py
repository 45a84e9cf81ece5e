"""What W&B gets of a training besides its curves: the dataset's manifest, the finished model, and where it errs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.model.folder import HISTORY, WEIGHTS
from flywheel.records import DatasetVersion, TrainedModel

MISTAKES = 24


def log_dataset(run: Any, dataset: DatasetVersion) -> None:
    """Its manifest only: the images stay where they are."""
    import wandb

    artifact = wandb.Artifact(dataset.id, type="dataset", metadata={"counts": dict(dataset.counts)})
    artifact.add_file(str(dataset.folder / "manifest.json"))
    run.log_artifact(artifact)


def log_model(run: Any, model: TrainedModel) -> None:
    import wandb

    summary = {"top1_validation": model.top1_validation, "best_epoch": model.best_epoch}
    run.summary.update({name: value for name, value in summary.items() if value is not None})
    metadata = {"dataset": model.dataset_id, "architecture": model.architecture, "weights": model.weights_sha256}
    artifact = wandb.Artifact(model.id, type="model", metadata=metadata)
    for name in (WEIGHTS, HISTORY):
        artifact.add_file(str(model.folder / name))
    run.log_artifact(artifact)


def log_confusion(
    run: Any, probabilities: NDArray[np.float32], labels: NDArray[np.int64], classes: tuple[str, ...]
) -> None:
    import wandb

    predicted = probabilities.argmax(1).tolist()
    plot = wandb.plot.confusion_matrix(y_true=labels.tolist(), preds=predicted, class_names=list(classes))
    run.log({"confusion_matrix": plot})


def log_mistakes(
    run: Any,
    probabilities: NDArray[np.float32],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
) -> None:
    """The wrong answers that the model was surest of, with their images."""
    import wandb

    table = wandb.Table(columns=["image", "true", "predicted", "confidence"])
    for row in most_confident_mistakes(probabilities, labels, MISTAKES):
        answer = int(probabilities[row].argmax())
        confidence = float(probabilities[row, answer])
        table.add_data(wandb.Image(np.asarray(images[row])), classes[labels[row]], classes[answer], confidence)
    run.log({"most_confident_mistakes": table})


def most_confident_mistakes(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """The rows, surest first, whose likeliest class isn't the true one."""
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:count]

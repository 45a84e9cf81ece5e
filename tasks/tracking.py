"""Weights & Biases, in the training process only: offline unless a key or WANDB_MODE says otherwise.

W&B needs seconds to start and its own time to write, so it lives in a thread that training never waits for. Whatever
goes wrong in it is a warning in the log.
"""

import logging
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flywheel.model.folder import HISTORY, WEIGHTS, recipe_content
from flywheel.records import DatasetVersion, TrainedModel
from flywheel.settings import Recipe

if TYPE_CHECKING:
    from flywheel.model.inference import Classifier

logger = logging.getLogger(__name__)

PROJECT = "flywheel"
STEPS_BETWEEN_LOGS = 20
LOGGED = ("epoch", "loss", "top1_validation", "learning_rate", "images_per_second")
MISTAKES = 24
SECONDS_TO_REACH_SERVER = 8
SECONDS_TO_START = 60.0
SECONDS_TO_FINISH = 60.0  # offline it takes about one; a network that has gone must not hold the model up
THREAD = "wandb"

Job = Callable[[Any], None]  # gets W&B's run


class Tracker:
    """One W&B run beside one training. Use it as a context manager: leaving it finishes the run."""

    def __init__(self, job_queue: "queue.Queue[Job | None] | None") -> None:
        self._jobs = job_queue
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._folder = ""
        self._last_step = -STEPS_BETWEEN_LOGS

    @classmethod
    def start(cls, model_id: str, recipe: Recipe, dataset: DatasetVersion, home: Path, track: bool) -> "Tracker":
        """Begin in the background; a tracker that does nothing where tracking is off or WANDB_MODE=disabled."""
        if not track or os.environ.get("WANDB_MODE", "").lower() == "disabled":
            return cls(None)
        tracker = cls(queue.Queue())
        config = {**recipe_content(recipe), "dataset": dataset.id, "classes": len(dataset.classes)}
        tracker._thread = threading.Thread(
            target=tracker._work, args=(model_id, config, home), daemon=True, name=THREAD
        )
        tracker._thread.start()
        tracker._put(lambda run: _log_dataset(run, dataset))
        return tracker

    def log(self, event: dict[str, Any]) -> None:
        """Every epoch, and a step at least 20 after the last one that was logged."""
        step = int(event.get("step", 0))
        if event["event"] == "epoch" or (event["event"] == "step" and step - self._last_step >= STEPS_BETWEEN_LOGS):
            self._last_step = step
            values = {name: event[name] for name in LOGGED if event.get(name) is not None}
            self._put(lambda run: run.log(values, step=step))

    def folder(self) -> str:
        """The run's folder, relative to the project's where it lies inside; "" where there is no run."""
        if self._thread is not None:
            self._started.wait(SECONDS_TO_START)
        return self._folder

    def finish_with(
        self, model: TrainedModel, classifier: "Classifier", images: NDArray[np.uint8], labels: NDArray[np.int64]
    ) -> None:
        """Log the finished model, and what it says about the validation side: uint8[V, S, S, 3] and int64[V]."""
        if self._jobs is None:
            return
        from flywheel.model.inference import softmax

        if len(labels):
            probabilities = softmax(classifier.predict_packed(images).logits)
            self._put(lambda run: _log_confusion(run, probabilities, labels, model.classes))
            self._put(lambda run: _log_mistakes(run, probabilities, images, labels, model.classes))
        self._put(lambda run: _log_model(run, model))

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._jobs is None or self._thread is None:
            return
        if kind is not None:
            self._put(lambda run: run.finish(exit_code=1))
        self._jobs.put(None)
        self._thread.join(SECONDS_TO_FINISH)
        if self._thread.is_alive():
            logger.warning("W&B: not finished after %.0f s; its files stay in .flywheel/wandb", SECONDS_TO_FINISH)

    def _put(self, job: Job) -> None:
        if self._jobs is not None:
            self._jobs.put(job)

    def _work(self, model_id: str, config: dict[str, Any], home: Path) -> None:
        try:
            run = _begin(model_id, config)
            self._folder = _relative(Path(run.dir).parent, home)
        except Exception as error:  # noqa: BLE001 - tracking never stops a training
            logger.warning("W&B: no run, training goes on without: %s", error)
            return
        finally:
            self._started.set()
        while self._jobs is not None and (job := self._jobs.get()) is not None:
            _try(job, run)
        _try(lambda run: run.finish(), run)


def _begin(model_id: str, config: dict[str, Any]) -> Any:
    """A run in the mode that the user set; without one, online with a key in the environment and offline without."""
    import wandb

    mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
    state = Path(os.environ["WANDB_DIR"])
    state.mkdir(parents=True, exist_ok=True)

    def begin(mode: Any) -> Any:
        settings = wandb.Settings(
            console="off", silent=True, init_timeout=SECONDS_TO_REACH_SERVER, disable_git=True, disable_code=True
        )
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        return wandb.init(project=project, name=model_id, config=config, mode=mode, dir=state, settings=settings)

    try:
        return begin(mode)
    except Exception as error:
        if mode == "offline":
            raise
        logger.warning("W&B: %s; keeping this run offline, 'wandb sync' sends it later", error)
        return begin("offline")


def _try(job: Job, run: Any) -> None:
    try:
        job(run)
    except Exception as error:  # noqa: BLE001 - tracking never stops a training
        logger.warning("W&B: not logged: %s: %s", type(error).__name__, error)


def _log_dataset(run: Any, dataset: DatasetVersion) -> None:
    """Its manifest only: the images stay where they are."""
    import wandb

    artifact = wandb.Artifact(dataset.id, type="dataset", metadata={"counts": dict(dataset.counts)})
    artifact.add_file(str(dataset.folder / "manifest.json"))
    run.log_artifact(artifact)


def _log_model(run: Any, model: TrainedModel) -> None:
    import wandb

    run.summary.update({"top1_validation": model.top1_validation, "best_epoch": model.best_epoch})
    metadata = {"dataset": model.dataset_id, "architecture": model.architecture, "weights": model.weights_sha256}
    artifact = wandb.Artifact(model.id, type="model", metadata=metadata)
    for name in (WEIGHTS, HISTORY):
        artifact.add_file(str(model.folder / name))
    run.log_artifact(artifact)


def _log_confusion(
    run: Any, probabilities: NDArray[np.float32], labels: NDArray[np.int64], classes: tuple[str, ...]
) -> None:
    import wandb

    predicted = probabilities.argmax(1).tolist()
    plot = wandb.plot.confusion_matrix(y_true=labels.tolist(), preds=predicted, class_names=list(classes))
    run.log({"confusion_matrix": plot})


def _log_mistakes(
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


def _relative(folder: Path, home: Path) -> str:
    return str(folder.relative_to(home)) if folder.is_relative_to(home) else str(folder)

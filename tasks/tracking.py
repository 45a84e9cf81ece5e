"""Weights & Biases, in the training process only: a run that is always written to disk, and sent where a key says so.

W&B needs seconds to start and its own time to write, so it lives in a thread that training never waits for. No network
is in its way: what is sent is sent by another process, from the disk. Whatever goes wrong is said in one line.
"""

import contextlib
import logging
import os
import queue
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flywheel.model.folder import recipe_content
from flywheel.paths import Paths
from flywheel.records import DatasetVersion, TrainedModel
from flywheel.settings import Recipe
from tasks.wandb_contents import log_confusion, log_dataset, log_mistakes, log_model
from tasks.wandb_sync import Sender, is_off, sync_command, why_kept

if TYPE_CHECKING:
    from flywheel.model.inference import Classifier

logger = logging.getLogger(__name__)

PROJECT = "flywheel"
STEPS_BETWEEN_LOGS = 20
LOGGED = ("epoch", "loss", "top1_validation", "learning_rate", "images_per_second")
SECONDS_TO_START = 20.0
SECONDS_BETWEEN_WRITES = 2.0  # of the run's file, from which it is sent; W&B's own 15 is a long time to see nothing
SECONDS_TO_FINISH = 20.0  # of a run on disk: it takes less than one, and copying the weights some more
SECONDS_AFTER_TROUBLE = 3.0  # a run that is not whole may have no end that a sender could wait for
SPACE_TRIED = 64 * 1024  # bytes: W&B loses what it can't write, and says so nowhere but in a log on the same disk
THREAD = "wandb"

Job = Callable[[Any], None]  # gets W&B's run


class Tracker:
    """One W&B run beside one training. Use it as a context manager: leaving it finishes the run and says how it went.

    `outcome` is then an event for a person: what became of the run, and the command that sends it where that is left.
    """

    def __init__(self, home: Path, seconds_to_send: float, jobs: "queue.Queue[Job | None] | None") -> None:
        self._home = home
        self._seconds_to_send = seconds_to_send
        self._jobs = jobs
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._folder: Path | None = None
        self._sender: Sender | None = None
        self._server = ""
        self._trouble = ""
        self._last_step = -STEPS_BETWEEN_LOGS
        self.outcome: dict[str, Any] | None = None

    @classmethod
    def start(
        cls,
        model_id: str,
        recipe: Recipe,
        dataset: DatasetVersion,
        home: Path,
        track: bool,
        seconds_to_send: float = 0.0,
    ) -> "Tracker":
        """Begin in the background; a tracker that does nothing where tracking is off or WANDB_MODE=disabled.

        The finished run is given so many seconds to be sent, where the environment asks for that.
        """
        if not track or is_off():
            return cls(home, seconds_to_send, None)
        tracker = cls(home, seconds_to_send, queue.Queue())
        config = {**recipe_content(recipe), "dataset": dataset.id, "classes": len(dataset.classes)}
        tracker._thread = threading.Thread(target=tracker._work, args=(model_id, config), daemon=True, name=THREAD)
        tracker._thread.start()
        tracker._put(lambda run: log_dataset(run, dataset))
        return tracker

    def log(self, event: dict[str, Any]) -> None:
        """Every epoch, and a step at least 20 after the last one that was logged."""
        step = int(event.get("step", 0))
        if event["event"] == "epoch" or (event["event"] == "step" and step - self._last_step >= STEPS_BETWEEN_LOGS):
            self._last_step = step
            values = {name: event[name] for name in LOGGED if event.get(name) is not None}
            self._put(lambda run: run.log(values, step=step))
        if event["event"] == "epoch":
            self._put(self._try_space)

    def folder(self) -> str:
        """The run's folder, relative to the project's where it lies inside; "" where there is no run."""
        if self._thread is not None:
            self._started.wait(SECONDS_TO_START)
        return "" if self._folder is None else _relative(self._folder, self._home)

    def finish_with(
        self, model: TrainedModel, classifier: "Classifier", images: NDArray[np.uint8], labels: NDArray[np.int64]
    ) -> None:
        """Log the finished model, and what it says about the validation side: uint8[V, S, S, 3] and int64[V]."""
        if self._jobs is None:
            return
        from flywheel.model.inference import softmax

        if len(labels):
            probabilities = softmax(classifier.predict_packed(images).logits)
            self._put(lambda run: log_confusion(run, probabilities, labels, model.classes))
            self._put(lambda run: log_mistakes(run, probabilities, images, labels, model.classes))
        self._put(lambda run: log_model(run, model))

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
            self._note(f"W&B did not finish within {SECONDS_TO_FINISH:.0f} s")
            _end_children()
        try:
            said, command = self._became(), sync_command(self.folder(), Paths(self._home))
        except Exception as error:  # noqa: BLE001 - tracking never stops a training
            said, command = f"not known whether the run was kept: {type(error).__name__}: {error}", ""
        self.outcome = {"event": "tracking", "said": " ".join(said.split())} | ({"command": command} if command else {})

    def _became(self) -> str:
        """The sender is waited for here: only what it says at its end is true."""
        kept = why_kept()
        if self._sender is not None:
            seconds = min(self._seconds_to_send, SECONDS_AFTER_TROUBLE) if self._trouble else self._seconds_to_send
            kept = self._sender.finish(self._server, seconds)
        if self._folder is None:
            return f"no run was kept: {self._trouble or 'W&B did not start'}"
        if self._trouble:
            return f"not all of the run was kept: {self._trouble}"
        if kept or self._sender is None:
            return f"kept offline: {kept}"
        return f"sent to {self._sender.address() or self._server}"

    def _put(self, job: Job) -> None:
        if self._jobs is not None:
            self._jobs.put(job)

    def _work(self, model_id: str, config: dict[str, Any]) -> None:
        try:
            run = _begin(model_id, config)
            self._server = str(run.settings.base_url)
            self._folder = Path(run.dir).parent
            if not why_kept():
                self._sender = Sender(self._folder)
        except Exception as error:  # noqa: BLE001 - tracking never stops a training
            self._note(f"{type(error).__name__}: {error}")
        finally:
            self._started.set()
        if self._folder is None:
            return
        while self._jobs is not None and (job := self._jobs.get()) is not None:
            self._try(job, run)
        self._try(self._try_space, run)
        self._try(lambda run: run.finish(), run)

    def _try_space(self, _run: Any) -> None:
        """Raises OSError where the run's disk takes no more."""
        with tempfile.TemporaryFile(dir=self._folder) as file:
            file.write(bytes(SPACE_TRIED))

    def _try(self, job: Job, run: Any) -> None:
        try:
            job(run)
        except Exception as error:  # noqa: BLE001 - tracking never stops a training
            self._note(f"{type(error).__name__}: {error}")

    def _note(self, trouble: str) -> None:
        """The first one is what a person hears; a failed disk would repeat it at every step."""
        if not self._trouble:
            self._trouble = trouble
            logger.warning("W&B: %s", trouble)


def _begin(model_id: str, config: dict[str, Any]) -> Any:
    """A run that is kept on disk; what W&B has to say to a terminal goes nowhere."""
    import wandb

    state = Path(os.environ["WANDB_DIR"])
    state.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        x_transaction_log_flush_interval=SECONDS_BETWEEN_WRITES,
    )
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    return wandb.init(project=project, name=model_id, config=config, mode="offline", dir=state, settings=settings)


def _end_children() -> None:
    """W&B's own processes, where they hang, would outlive this one."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.name().startswith("wandb"):
                child.kill()


def _relative(folder: Path, home: Path) -> str:
    return str(folder.relative_to(home)) if folder.is_relative_to(home) else str(folder)

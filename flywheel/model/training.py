"""Training a classifier: one process, one device, resumable at every epoch to the same bits.

The loop is plain: batches come augmented from the device, and the loss is read back at most every half second, so that
a GPU never waits for Python. What an epoch leaves is a checkpoint and a row of `history.json`.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flywheel.model.architecture import Airbench, create, memory_format, parameter_count
from flywheel.model.augmentation import ResidentImages, batches, place_on_device, seed_of, steps_per_epoch
from flywheel.model.checkpoint import (
    Checkpoint,
    find_checkpoints,
    generator_states,
    keep_only,
    load_checkpoint,
    restore_generators,
    save_checkpoint,
    save_weights,
)
from flywheel.model.folder import CHECKPOINTS, HISTORY, WEIGHTS, TrainingError, write_atomically
from flywheel.model.inference import predict_logits
from flywheel.model.losses import Loss, LossWatch, create_loss
from flywheel.model.preprocessing import normalise
from flywheel.model.schedule import create_optimizer, set_learning_rate
from flywheel.records import Preprocessing
from flywheel.settings import Recipe

logger = logging.getLogger(__name__)

OnEvent = Callable[[dict[str, Any]], None]
SECONDS_BETWEEN_READS = 0.5  # of the loss: reading makes a GPU wait
STEM_IMAGES = 2000  # enough patches for a stem that is fitted on the images
POINTS_PER_EPOCH = 20  # of the loss, in the history


@dataclass(frozen=True)
class Fitted:
    """What a training left in its folder."""

    best_epoch: int
    top1_validation: float  # of the best epoch; 0 where there is no validation side
    parameters: int
    train_seconds: float
    images_per_second: float


@dataclass
class Run:
    """Everything that changes while training, and what it was made from."""

    recipe: Recipe
    network: nn.Module
    averaged: Any  # timm's ModelEmaV3, or None
    optimizer: torch.optim.Optimizer
    loss: Loss
    data: ResidentImages
    validation: tuple[NDArray[np.uint8], NDArray[np.int64]]
    folder: Path
    on_event: OnEvent
    on_checkpoint: Callable[[str], None]
    classes: int
    epochs: list[dict[str, Any]] = field(default_factory=list)  # the history, a row an epoch

    @property
    def images(self) -> int:
        return len(self.data.labels)

    @property
    def steps_an_epoch(self) -> int:
        return steps_per_epoch(self.images, self.recipe.batch_size)

    @property
    def steps(self) -> int:
        return self.recipe.epochs * self.steps_an_epoch

    @property
    def measured(self) -> nn.Module:
        """The network that is validated and kept: the averaged one where EMA is on."""
        network: nn.Module = self.network if self.averaged is None else self.averaged.module
        return network

    @property
    def best_epoch(self) -> int:
        """The first of those with the highest validation top-1; the last one where there is no validation side."""
        if not len(self.validation[1]):
            return len(self.epochs)
        return 1 + max(range(len(self.epochs)), key=lambda i: (self.epochs[i]["top1_validation"], -i))


def fit(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    train_rows: NDArray[np.int64],
    validation_rows: NDArray[np.int64],
    classes: tuple[str, ...],
    recipe: Recipe,
    device: str,
    folder: Path,
    on_event: OnEvent,
    *,
    preprocessing: Preprocessing,
    on_checkpoint: Callable[[str], None] = lambda _: None,
) -> Fitted:
    """Train on rows of a packed uint8[N, S, S, 3]; leave `weights.safetensors` and `history.json` in `folder`.

    Where the folder holds checkpoints of the same run, it goes on after the last one and ends with the same weights, to
    the bit, on the same kind of machine, build and thread count (CPU). The weights are those of the epoch with the best
    validation top-1. `on_event` hears steps, epochs and a resumption; `on_checkpoint` the stages of a checkpoint's
    write. Raises TrainingError where the loss stops being a number or explodes, ModelError for an unknown network.
    """
    _check_sides(train_rows, classes, labels)
    prepare_torch(recipe.threads, device)
    run = _start(images, labels, train_rows, classes, recipe, torch.device(device), preprocessing, folder)
    run.on_event, run.on_checkpoint = on_event, on_checkpoint
    run.validation = (images[validation_rows], np.asarray(labels[validation_rows], np.int64))
    _resume(run)
    for epoch in range(len(run.epochs), recipe.epochs):
        _train_epoch(run, epoch)
    return _finish(run)


def prepare_torch(threads: int, device: str) -> None:
    """Thread count and deterministic kernels; on CUDA only where there is one (a warning names the others)."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=device != "cpu")
    # filling memory that nothing reads before it is written costs time
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def _check_sides(train_rows: NDArray[np.int64], classes: tuple[str, ...], labels: NDArray[np.int64]) -> None:
    if len(train_rows) < 2:
        raise TrainingError("training", f"at least 2 training images expected, {len(train_rows)} found.", "Add images.")
    if (highest := int(labels[train_rows].max())) >= len(classes):
        raise TrainingError(
            "training", f"labels below {len(classes)} expected, {highest} found.", "Make the dataset version again."
        )


def _start(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    classes: tuple[str, ...],
    recipe: Recipe,
    device: torch.device,
    preprocessing: Preprocessing,
    folder: Path,
) -> Run:
    """The run before its first step: weights drawn by the seed, the stem fitted on the first training images."""
    torch.manual_seed(seed_of(recipe.seed, "weights"))
    network = create(recipe.model, len(classes), preprocessing.size)
    if isinstance(network, Airbench):
        some = rows[np.linspace(0, len(rows) - 1, min(len(rows), STEM_IMAGES)).astype(np.int64)]
        network.fit_stem(normalise(torch.from_numpy(images[some]), preprocessing))
    layout = memory_format(network)
    network = network.to(device=device).to(memory_format=layout)
    return Run(
        recipe=recipe,
        network=network,
        averaged=_averaged(network, recipe),
        optimizer=create_optimizer(network, recipe),
        loss=create_loss(recipe, len(classes)),
        data=place_on_device(images, labels, rows, recipe, preprocessing, device, layout),
        validation=(images[:0], labels[:0]),
        folder=folder,
        on_event=lambda _: None,
        on_checkpoint=lambda _: None,
        classes=len(classes),
    )


def _averaged(network: nn.Module, recipe: Recipe) -> Any:
    if not recipe.ema:
        return None
    from timm.utils import ModelEmaV3

    return ModelEmaV3(network, decay=recipe.ema, use_warmup=True)


def _train_epoch(run: Run, epoch: int) -> None:
    """All steps of one epoch, its validation, its checkpoint and its row of the history."""
    run.network.train()
    run.measured.train(run.averaged is None)
    watch = LossWatch(run.recipe, run.classes)
    began = spoke = time.perf_counter()
    rate = 0.0
    for index, positions in enumerate(batches(run.images, run.recipe, epoch)):
        step = epoch * run.steps_an_epoch + index
        rate = set_learning_rate(run.optimizer, run.recipe, step, run.steps)
        watch.add(step + 1, _step(run, positions, epoch, index, step), rate)
        if (now := time.perf_counter()) - spoke >= SECONDS_BETWEEN_READS:
            speed = (index + 1) * run.images / run.steps_an_epoch / (now - began)
            run.on_event(_step_event(run, epoch, step + 1, watch.read(), speed, rate))
            spoke = time.perf_counter()
    watch.read()
    seconds = time.perf_counter() - began
    _close_epoch(run, epoch, watch, rate, seconds)


def _step(run: Run, positions: Tensor, epoch: int, index: int, step: int) -> Tensor:
    """One update; returns the loss, unread. Dropout and its like draw from a generator seeded for this very step."""
    torch.manual_seed(seed_of(run.recipe.seed, "step", epoch, index))
    images, labels = run.data.batch(positions, run.recipe, epoch, index)
    with torch.autocast("cuda", torch.bfloat16, enabled=images.device.type == "cuda"):
        loss = run.loss(run.network, images, labels, seed_of(run.recipe.seed, "mix", epoch, index))
    loss.backward()  # type: ignore[no-untyped-call]
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    if run.averaged is not None:
        run.averaged.update(run.network, step + 1)
    return loss.detach()


def _step_event(run: Run, epoch: int, step: int, loss: float, speed: float, rate: float) -> dict[str, Any]:
    return {
        "event": "step",
        "epoch": epoch + 1,
        "epochs": run.recipe.epochs,
        "step": step,
        "steps": run.steps,
        "loss": loss,
        "images_per_second": speed,
        "learning_rate": rate,
    }


def _close_epoch(run: Run, epoch: int, watch: LossWatch, rate: float, seconds: float) -> None:
    step = (epoch + 1) * run.steps_an_epoch
    watch.check_weights(run.network, step)
    row = _step_event(run, epoch, step, watch.mean, run.images / seconds, rate)
    row |= {"event": "epoch", "top1_validation": _top1(run), "seconds": seconds}
    run.epochs.append({**row, "curve": watch.points(POINTS_PER_EPOCH)})
    save_checkpoint(
        run.folder / CHECKPOINTS, epoch + 1, run.measured.state_dict(), _state(run, step), run.on_checkpoint
    )
    keep_only(run.folder / CHECKPOINTS, {epoch + 1, run.best_epoch})
    _write_history(run)
    run.on_event(row)


def _top1(run: Run) -> float | None:
    """Of the validation side; None where it is empty."""
    images, labels = run.validation
    if not len(labels):
        return None
    logits = predict_logits(run.measured, images, run.data.preprocessing)
    return float((logits.argmax(1) == labels).mean())


def _state(run: Run, step: int) -> dict[str, Any]:
    """All but the weights that the next step depends on, and the history so far."""
    return {
        "step": step,
        "network": run.network.state_dict() if run.averaged is not None else {},
        "optimizer": run.optimizer.state_dict(),
        "generators": generator_states(),
        "threads": torch.get_num_threads(),
        "recipe": run.recipe.model_dump(mode="json"),
        "epochs": run.epochs,
    }


def _resume(run: Run) -> None:
    """Go on after the last whole checkpoint, if there is one."""
    found = find_checkpoints(run.folder / CHECKPOINTS)
    if not found:
        return
    weights, state = load_checkpoint(found[-1], run.data.pixels.device)
    if state["recipe"] != run.recipe.model_dump(mode="json") or state["threads"] != torch.get_num_threads():
        raise TrainingError(
            str(found[-1].folder),
            "a checkpoint of this recipe and thread count expected, another's found.",
            f"Delete {run.folder}.",
        )
    run.measured.load_state_dict(weights)
    if run.averaged is not None:
        run.network.load_state_dict(state["network"])
    run.optimizer.load_state_dict(state["optimizer"])
    restore_generators(state["generators"])
    run.epochs = state["epochs"]
    last = {name: value for name, value in run.epochs[-1].items() if name != "curve"}
    run.on_event({**last, "event": "resumed"})


def _finish(run: Run) -> Fitted:
    """The best epoch's weights become the model's."""
    kept = {checkpoint.epoch: checkpoint for checkpoint in find_checkpoints(run.folder / CHECKPOINTS)}
    best = run.best_epoch
    if best not in kept:
        raise TrainingError(
            str(run.folder),
            f"the checkpoint of epoch {best}, the best, was expected; it is missing or broken.",
            f"Delete {run.folder} and train again.",
        )
    save_weights(_weights_of(kept[best]), run.folder / WEIGHTS)
    _write_history(run)
    seconds = sum(row["seconds"] for row in run.epochs)
    return Fitted(
        best_epoch=best,
        top1_validation=run.epochs[best - 1]["top1_validation"] or 0.0,
        parameters=parameter_count(run.network),
        train_seconds=seconds,
        images_per_second=run.images * run.recipe.epochs / max(seconds, 1e-9),
    )


def _weights_of(checkpoint: Checkpoint) -> dict[str, Tensor]:
    weights, _ = load_checkpoint(checkpoint, torch.device("cpu"))
    return weights


def _write_history(run: Run) -> None:
    """A list with a row an epoch; the loss within the epoch is its `curve`."""
    rows = [{name: value for name, value in row.items() if name != "event"} for row in run.epochs]
    write_atomically(run.folder / HISTORY, json.dumps(rows, indent=1, allow_nan=False) + "\n")

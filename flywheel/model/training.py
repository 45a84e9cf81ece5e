"""Training a classifier: one process, one device, resumable at every epoch to the same bits.

The loop is plain: batches come augmented from the device, and the loss is read back at most every half second, so that
a GPU never waits for Python. What an epoch leaves is a checkpoint and a row of `history.json`.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flywheel.model.architecture import parameter_count
from flywheel.model.augmentation import PaddedBatch, batches, seed_of
from flywheel.model.checkpoint import (
    Checkpoint,
    find_checkpoints,
    keep_only,
    load_checkpoint,
    save_checkpoint,
    save_weights,
)
from flywheel.model.folder import CHECKPOINTS, WEIGHTS, TrainingError
from flywheel.model.inference import BATCH_SIZE, predict_logits
from flywheel.model.losses import LossWatch
from flywheel.model.run import OnEvent, Run, resume, start_run, state_of, write_history
from flywheel.model.schedule import phase_of, set_learning_rate
from flywheel.records import InitialWeights, Preprocessing
from flywheel.settings import Recipe

logger = logging.getLogger(__name__)

SMALLEST_PART = 2  # images: batch norm has no variance of one
SECONDS_BETWEEN_READS = 0.5  # of the loss: reading makes a GPU wait
POINTS_PER_EPOCH = 20  # of the loss, in the history


@dataclass(frozen=True)
class Fitted:
    """What a training left in its folder."""

    best_epoch: int
    top1_validation: float | None  # of the best epoch; None where there is no validation side
    parameters: int
    train_seconds: float
    images_per_second: float
    parts: int  # that a batch was split into, in the end: more than 1 where the device's memory ran out
    streamed: bool  # whether the images were read from disk a step at a time


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
    initial: InitialWeights | None = None,
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
    run = start_run(images, labels, train_rows, classes, recipe, torch.device(device), preprocessing, folder, initial)
    run.on_event, run.on_checkpoint = on_event, on_checkpoint
    run.validation = (images, labels, validation_rows)
    resume(run)
    on_event({"event": "data", "images": run.images, "streamed": run.streamed})
    for epoch in range(len(run.epochs), recipe.epochs):
        run.enter(phase_of(recipe, epoch))
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


def _train_epoch(run: Run, epoch: int) -> None:
    """All steps of one epoch, its validation, its checkpoint and its row of the history."""
    run.network.train(not run.phase.head_only)  # a frozen backbone's batch norms keep their statistics
    run.measured.train(run.averaged is None and not run.phase.head_only)
    watch = LossWatch(run.recipe, run.classes)
    began = spoke = time.perf_counter()
    rate = 0.0
    steps = run.data.padded(batches(run.images, run.recipe, epoch))
    for index, batch in enumerate(steps):
        step = epoch * run.steps_an_epoch + index
        done, ahead = step - run.phase.first * run.steps_an_epoch, run.phase.epochs * run.steps_an_epoch
        rate = set_learning_rate(run.optimizer, run.recipe, done, ahead)
        watch.add(step + 1, _step(run, batch, epoch, index, step), rate)
        if (now := time.perf_counter()) - spoke >= SECONDS_BETWEEN_READS:
            speed = (index + 1) * run.images / run.steps_an_epoch / (now - began)
            run.on_event(_step_event(run, epoch, step + 1, watch.read(), speed, rate))
            spoke = time.perf_counter()
    watch.read()
    seconds = time.perf_counter() - began
    _close_epoch(run, epoch, watch, rate, seconds)


def _step(run: Run, batch: PaddedBatch, epoch: int, index: int, step: int) -> Tensor:
    """One update; returns the loss, unread. Where the device's memory runs out, it is done in more parts."""
    while (loss := _try_gradients(run, batch, epoch, index)) is None:
        run.optimizer.zero_grad(set_to_none=True)
        _split_further(run, len(batch.positions))
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    if run.averaged is not None:
        run.averaged.update(run.network, step + 1)
    return loss


def _try_gradients(run: Run, batch: PaddedBatch, epoch: int, index: int) -> Tensor | None:
    """The loss, its gradients left in the network; None where the device's memory ran out."""
    try:
        return accumulate(run, batch, epoch, index)
    except torch.OutOfMemoryError as error:
        logger.warning("the device's memory ran out: %s", str(error).partition("\n")[0])
        return None  # only now does the failed attempt let go of its tensors


def accumulate(run: Run, batch: PaddedBatch, epoch: int, index: int) -> Tensor:
    """Sum the gradients of `run.parts` parts of a batch, each weighted by its share; returns the batch's mean loss.

    The sum is the whole batch's gradient but for batch norm and mixup, which see the images of a part only. Dropout and
    its like draw from a generator seeded for this very step.
    """
    _seed_generators(seed_of(run.recipe.seed, "step", epoch, index), run.data.labels.device)
    images, labels = run.data.augmented(batch, run.recipe, epoch, index)
    parts = max(1, min(run.parts, len(labels) // SMALLEST_PART))
    total = torch.zeros((), device=labels.device)
    pieces = zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True)
    for place, (some, marks) in enumerate(pieces):
        with torch.autocast("cuda", torch.bfloat16, enabled=images.device.type == "cuda"):
            loss = run.loss(run.network, some, marks, seed_of(run.recipe.seed, "mix", epoch, index) + place)
        share = len(marks) / len(labels)
        (loss * share).backward()  # type: ignore[no-untyped-call]
        total += loss.detach() * share
    return total


def _seed_generators(seed: int, device: torch.device) -> None:
    """torch's global generator, and the device's. `torch.manual_seed` asks every kind of device, at a cost a step."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _split_further(run: Run, images: int) -> None:
    """Twice as many parts, for the rest of the run. Raises TrainingError where a part would be too small to learn."""
    if images // (2 * run.parts) < SMALLEST_PART:
        raise TrainingError(
            run.recipe.model,
            f"the device's memory ran out with {-(-images // run.parts)} images at a time.",
            "Try a smaller model, a smaller SIZE, or DEVICE=cpu.",
        )
    run.parts *= 2
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    at_once = -(-images // run.parts)
    logger.warning("going on with %d images at a time, gradients of %d parts summed", at_once, run.parts)
    run.on_event({"event": "memory", "parts": run.parts, "images_at_once": at_once})


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
        "head_only": run.phase.head_only,
    }


def _close_epoch(run: Run, epoch: int, watch: LossWatch, rate: float, seconds: float) -> None:
    step = (epoch + 1) * run.steps_an_epoch
    watch.check_weights(run.network, step)
    row = _step_event(run, epoch, step, watch.mean, run.images / seconds, rate)
    row |= {"event": "epoch", "top1_validation": _top1(run), "seconds": seconds}
    run.epochs.append({**row, "curve": watch.points(POINTS_PER_EPOCH)})
    save_checkpoint(
        run.folder / CHECKPOINTS, epoch + 1, run.measured.state_dict(), state_of(run, step), run.on_checkpoint
    )
    keep_only(run.folder / CHECKPOINTS, {epoch + 1, run.best_epoch})
    write_history(run)
    run.on_event(row)


def _top1(run: Run) -> float | None:
    """Of the validation side; None where it is empty."""
    images, labels, rows = run.validation
    if not len(rows):
        return None
    right = 0
    for start in range(0, len(rows), BATCH_SIZE):
        some = rows[start : start + BATCH_SIZE]
        logits = predict_logits(run.measured, images[some], run.data.preprocessing)
        right += int((logits.argmax(1) == labels[some]).sum())
    return right / len(rows)


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
    write_history(run)
    seconds = sum(row["seconds"] for row in run.epochs)
    return Fitted(
        best_epoch=best,
        top1_validation=run.epochs[best - 1]["top1_validation"],
        parameters=parameter_count(run.network),
        train_seconds=seconds,
        images_per_second=run.images * run.recipe.epochs / max(seconds, 1e-9),
        parts=run.parts,
        streamed=run.streamed,
    )


def _weights_of(checkpoint: Checkpoint) -> dict[str, Tensor]:
    weights, _ = load_checkpoint(checkpoint, torch.device("cpu"))
    return weights

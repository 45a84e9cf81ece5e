"""A dataset version and a recipe become a model; one that exists is returned, not trained again."""

import ctypes
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from flywheel.model.folder import (
    MANIFEST,
    REQUEST,
    ModelError,
    TrainingError,
    model_id,
    partial_folder,
    publish,
    read_model,
    verify,
    write_atomically,
)
from flywheel.model.initial_weights import find_initial_weights
from flywheel.paths import Paths
from flywheel.records import DatasetVersion, InitialWeights, TrainedModel, to_json
from flywheel.settings import Recipe
from tasks.fit import FitRequest
from tasks.fit_process import only_one, run_fit

__all__ = ["TrainingError", "choose_device", "demand_device", "demand_model", "train"]

logger = logging.getLogger(__name__)

OnEvent = Callable[[dict[str, Any]], None]


def train(
    version: DatasetVersion,
    recipe: Recipe,
    device: str,
    paths: Paths,
    on_event: OnEvent,
    *,
    initial: InitialWeights | None = None,
    track: bool = True,
) -> TrainedModel:
    """The model of a version and a recipe; `device` is auto, cpu, cuda or mps, `initial` the weights to begin with,
    which are looked up here where the recipe asks for some and none are given.

    A killed run goes on at its last checkpoint. `on_event` hears the training's steps and epochs, "waiting" where
    another process trains the same model, and "done". Raises TrainingError with a reason and what to try.
    """
    chosen = choose_device(device)
    initial = initial or find_initial_weights(recipe)
    name = model_id(version, recipe, chosen, initial.sha256 if initial else "")
    folder = paths.model(name)
    if (model := _finished(folder)) is not None:
        return model
    lock = paths.models / f".{name}.lock"
    with only_one(lock, partial(on_event, {"event": "waiting", "model": name})) as descriptor:
        if (model := _finished(folder)) is not None:
            return model
        partly = partial_folder(folder)
        if not _is_whole(partly):
            request = _write_request(
                partly, FitRequest(name, version, recipe, chosen, partly, paths.home, track, initial)
            )
            run_fit(request, recipe.threads, name, descriptor, on_event)
        model = publish(partly, folder)
        lock.unlink(missing_ok=True)
    logger.info(
        "trained %s: the weights of epoch %d of %d kept, %s, %.0f images/s",
        *(model.id, model.best_epoch, model.epochs, _why_kept(model), model.images_per_second),
    )
    return model


def _why_kept(model: TrainedModel) -> str:
    if model.top1_validation is None:
        return "the last, as no image stands on the validation side"
    return f"validation top-1 {model.top1_validation:.3f}"


def demand_model(recipe: Recipe, size: int, initial: InitialWeights | None = None) -> None:
    """Raise ModelError for a network that can't be built or whose weights don't fit, before the data is touched.

    The default one is known.
    """
    if initial is not None:
        from flywheel.model.pretrained import create_from

        create_from(initial, recipe.model, 2, size, recipe.stem)
    elif recipe.model != Recipe().model:
        import torch

        from flywheel.model.architecture import create

        with torch.device("meta"):  # shapes only
            create(recipe.model, 2, size, recipe.stem)


def demand_device(asked: str) -> None:
    """Raise TrainingError for a device that isn't there, before the data is touched; auto needs no look yet."""
    if asked != "auto":
        choose_device(asked)


def choose_device(asked: str) -> str:
    """cpu, cuda or mps. Raises TrainingError where the one that was asked for isn't there."""
    if asked == "cpu" or (asked == "auto" and _has_no_driver()):
        return "cpu"
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        return next(kind for kind, found in there.items() if found)
    if not there.get(asked, False):
        found = ", ".join(kind for kind, usable in there.items() if usable)
        raise TrainingError(f"device '{asked}'", f"one of {found} expected on this machine.", "Try DEVICE=auto.")
    return asked


def _has_no_driver() -> bool:
    """Whether neither CUDA's driver nor ROCm's device is there, as torch would say after 3 s of being imported.

    False where in doubt: then torch is asked.
    """
    if sys.platform != "linux":
        return False
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return not Path("/dev/kfd").exists()
    return False


def _finished(folder: Path) -> TrainedModel | None:
    try:
        return read_model(folder)
    except ModelError as error:
        logger.debug("%s", error)
        return None


def _is_whole(partly: Path) -> bool:
    """A run that was killed between its manifest and its renaming is finished."""
    try:
        verify(partly)
    except ModelError:
        (partly / MANIFEST).unlink(missing_ok=True)
        return False
    return True


def _write_request(partly: Path, request: FitRequest) -> Path:
    partly.mkdir(parents=True, exist_ok=True)
    write_atomically(partly / REQUEST, to_json(request) + "\n")
    return partly / REQUEST

"""A training run: what it is made from, what changes while it goes on, and how it goes on after a kill."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flywheel.model.architecture import Airbench, create, memory_format
from flywheel.model.augmentation import TrainingImages, seed_of, steps_per_epoch
from flywheel.model.checkpoint import find_checkpoints, generator_states, load_checkpoint, restore_generators
from flywheel.model.folder import CHECKPOINTS, HISTORY, TrainingError, recipe_content, write_atomically
from flywheel.model.losses import Loss, create_loss
from flywheel.model.preprocessing import normalise
from flywheel.model.pretrained import create_from, head_names
from flywheel.model.schedule import Phase, create_optimizer, phase_of
from flywheel.model.streaming import StreamedImages, training_images
from flywheel.records import InitialWeights, Preprocessing
from flywheel.settings import Recipe

OnEvent = Callable[[dict[str, Any]], None]
STEM_IMAGES = 2000  # enough patches for a stem that is fitted on the images


@dataclass
class Run:
    """Everything that changes while training, and what it was made from."""

    recipe: Recipe
    network: nn.Module
    averaged: Any  # timm's ModelEmaV3, or None
    backbone: tuple[nn.Parameter, ...]  # all that learns but the head
    phase: Phase
    optimizer: torch.optim.Optimizer
    loss: Loss
    data: TrainingImages
    validation: tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]  # images and labels of all, its rows
    folder: Path
    on_event: OnEvent
    on_checkpoint: Callable[[str], None]
    classes: int
    epochs: list[dict[str, Any]] = field(default_factory=list)  # the history, a row an epoch
    parts: int = 1  # that a batch is split into, its gradients summed: more where the device's memory ran out

    @property
    def images(self) -> int:
        return len(self.data.labels)

    @property
    def streamed(self) -> bool:
        return isinstance(self.data, StreamedImages)

    @property
    def steps_an_epoch(self) -> int:
        return steps_per_epoch(self.images, self.recipe.batch_size)

    @property
    def steps(self) -> int:
        return self.recipe.epochs * self.steps_an_epoch

    def enter(self, phase: Phase) -> None:
        """Freeze or free the backbone, and begin with an optimizer that has seen nothing; no-op within a phase."""
        if phase != self.phase:
            self.phase = phase
            self.optimizer = _optimizer(self.network, self.backbone, phase, self.recipe)

    @property
    def measured(self) -> nn.Module:
        """The network that is validated and kept: the averaged one where EMA is on."""
        network: nn.Module = self.network if self.averaged is None else self.averaged.module
        return network

    @property
    def best_epoch(self) -> int:
        """The first of those with the highest validation top-1; the last one where there is no validation side."""
        if not len(self.validation[2]):
            return len(self.epochs)
        return 1 + max(range(len(self.epochs)), key=lambda i: (self.epochs[i]["top1_validation"], -i))


def start_run(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    classes: tuple[str, ...],
    recipe: Recipe,
    device: torch.device,
    preprocessing: Preprocessing,
    folder: Path,
    initial: InitialWeights | None = None,
) -> Run:
    """The run before its first step.

    Weights are drawn by the seed, with a stem that is fitted on some of the training images, or come from a file.
    """
    torch.manual_seed(seed_of(recipe.seed, "weights"))
    if initial is not None:
        network = create_from(initial, recipe.model, len(classes), preprocessing.size, recipe.stem)
    else:
        network = create(recipe.model, len(classes), preprocessing.size, recipe.stem)
        if isinstance(network, Airbench):
            some = rows[np.linspace(0, len(rows) - 1, min(len(rows), STEM_IMAGES)).astype(np.int64)]
            network.fit_stem(normalise(torch.from_numpy(images[some]), preprocessing))
    layout = memory_format(network)
    network = network.to(device=device).to(memory_format=layout)
    head = head_names(network)
    backbone = tuple(p for name, p in network.named_parameters() if p.requires_grad and name not in head)
    phase = phase_of(recipe, 0)
    return Run(
        recipe=recipe,
        network=network,
        averaged=_averaged(network, recipe),
        backbone=backbone,
        phase=phase,
        optimizer=_optimizer(network, backbone, phase, recipe),
        loss=create_loss(recipe, len(classes)),
        data=training_images(images, labels, rows, recipe, preprocessing, device, layout),
        validation=(images, labels, rows[:0]),
        folder=folder,
        on_event=lambda _: None,
        on_checkpoint=lambda _: None,
        classes=len(classes),
    )


def _optimizer(
    network: nn.Module, backbone: tuple[nn.Parameter, ...], phase: Phase, recipe: Recipe
) -> torch.optim.Optimizer:
    for parameter in backbone:
        parameter.requires_grad_(not phase.head_only)
    return create_optimizer(network, recipe)


def _averaged(network: nn.Module, recipe: Recipe) -> Any:
    if not recipe.ema:
        return None
    from timm.utils import ModelEmaV3

    return ModelEmaV3(network, decay=recipe.ema, use_warmup=True)


def state_of(run: Run, step: int) -> dict[str, Any]:
    """All but the weights that the next step depends on, and the history so far."""
    return {
        "step": step,
        "network": run.network.state_dict() if run.averaged is not None else {},
        "optimizer": run.optimizer.state_dict(),
        "generators": generator_states(),
        "threads": torch.get_num_threads(),
        "recipe": recipe_content(run.recipe),
        "parts": run.parts,
        "epochs": run.epochs,
    }


def resume(run: Run) -> None:
    """Go on after the last whole checkpoint, if there is one."""
    found = find_checkpoints(run.folder / CHECKPOINTS)
    if not found:
        return
    weights, state = load_checkpoint(found[-1], run.data.labels.device)
    if state["recipe"] != recipe_content(run.recipe) or state["threads"] != torch.get_num_threads():
        raise TrainingError(
            str(found[-1].folder),
            "a checkpoint of this recipe and thread count expected, another's found.",
            f"Delete {run.folder}.",
        )
    run.measured.load_state_dict(weights)
    if run.averaged is not None:
        run.network.load_state_dict(state["network"])
    run.enter(phase_of(run.recipe, len(state["epochs"]) - 1))  # the phase that the checkpoint was written in
    run.optimizer.load_state_dict(state["optimizer"])
    restore_generators(state["generators"])
    run.epochs, run.parts = state["epochs"], state["parts"]
    last = {name: value for name, value in run.epochs[-1].items() if name != "curve"}
    run.on_event({**last, "event": "resumed"})


def write_history(run: Run) -> None:
    """A list with a row an epoch; the loss within the epoch is its `curve`."""
    rows = [{name: value for name, value in row.items() if name != "event"} for row in run.epochs]
    write_atomically(run.folder / HISTORY, json.dumps(rows, indent=1, allow_nan=False) + "\n")

"""The optimizer and its learning rate as a plain function of the step: nothing to save, nothing to get out of step."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from flywheel.model.folder import ModelError
from flywheel.settings import Recipe

FINAL_SHARE = 1e-3  # of the peak: the last step still learns a little


@dataclass(frozen=True)
class Phase:
    """Neighbouring epochs with an optimizer and a schedule of their own."""

    first: int  # epoch; 0 is the first
    epochs: int
    head_only: bool  # the backbone is frozen, its batch norms' statistics too


def phase_of(recipe: Recipe, epoch: int) -> Phase:
    """The phase of an epoch: the head alone first, where the recipe asks for it, then everything."""
    if epoch < recipe.head_epochs:
        return Phase(0, recipe.head_epochs, True)
    return Phase(recipe.head_epochs, recipe.epochs - recipe.head_epochs, False)


def learning_rate_share(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of a step (0 is the first) as a share of its peak: linear up, then as the schedule says.

    "triangle" falls linearly (timm has no such schedule), "cosine" as half a cosine (Loshchilov and Hutter, 2017).
    """
    warmup = recipe.warmup * steps
    if step + 1 < warmup:
        return (step + 1) / warmup
    if recipe.schedule == "constant":
        return 1.0
    passed = min(max((step + 1 - warmup) / max(steps - warmup, 1), 0.0), 1.0)
    falling = 1 - passed if recipe.schedule == "triangle" else (1 + math.cos(math.pi * passed)) / 2
    return FINAL_SHARE + (1 - FINAL_SHARE) * falling


def create_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """timm's optimizer of that name over the parameters that learn. Raises ModelError for a name it doesn't know.

    With `layer_decay` the rate falls from each layer to the one below it (Clark et al. 2020, ELECTRA). timm's Muon is
    done faster: see `muon.py`.
    """
    from timm.optim import create_optimizer_v2, list_optimizers

    if recipe.optimizer not in list_optimizers():
        raise ModelError(
            f"optimizer '{recipe.optimizer}': one of timm's expected ({', '.join(list_optimizers()[:8])}, …). "
            "Choose another, as OPTIMIZER=adamw."
        )
    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        network,
        recipe.optimizer,
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        layer_decay=recipe.layer_decay if recipe.layer_decay < 1 else None,
    )
    if recipe.optimizer == "muon" and not any(parameter.device.type == "mps" for parameter in network.parameters()):
        from flywheel.model.muon import GramMuon

        return GramMuon(optimizer.param_groups, **optimizer.defaults)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, step: int, steps: int) -> float:
    """Set every group's rate for the step and return it."""
    rate = recipe.learning_rate * learning_rate_share(recipe, step, steps)
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
    return rate

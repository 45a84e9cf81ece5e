"""The loss of a recipe, and the watch over its values: read rarely, and stopped at once when it makes no sense."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flywheel.model.folder import TrainingError
from flywheel.settings import Recipe

Loss = Callable[[nn.Module, Tensor, Tensor, int], Tensor]
EXPLODED = 50  # times the loss of guessing, ln C: no recipe that learns has been seen near it


def create_loss(recipe: Recipe, classes: int) -> Loss:
    """(network, images, labels, seed) → mean loss: label smoothing, or soft targets where images are mixed."""
    from timm.data import Mixup
    from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy

    if not (recipe.mixup or recipe.cutmix):
        plain: nn.Module = LabelSmoothingCrossEntropy(recipe.label_smoothing)
        return lambda network, images, labels, _: plain(network(images).float(), labels)
    mix = Mixup(recipe.mixup, recipe.cutmix, label_smoothing=recipe.label_smoothing, num_classes=classes)
    soft: nn.Module = SoftTargetCrossEntropy()

    def mixed(network: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        even = len(images) // 2 * 2  # images are mixed in pairs
        np.random.seed(seed % 2**32)  # timm draws from NumPy's global generator
        images, targets = mix(images[:even], labels[:even])
        loss: Tensor = soft(network(images).float(), targets)
        return loss

    return mixed


class LossWatch:
    """The losses of one epoch. They stay on the device until `read`, which finds the first that went wrong."""

    def __init__(self, recipe: Recipe, classes: int) -> None:
        self._recipe = recipe
        self._limit = EXPLODED * max(1.0, math.log(max(classes, 2)))
        self._unread: list[tuple[int, Tensor, float]] = []
        self._read: list[tuple[int, float, float]] = []  # step, loss, learning rate

    def add(self, step: int, loss: Tensor, learning_rate: float) -> None:
        self._unread.append((step, loss, learning_rate))

    def read(self) -> float:
        """The mean loss since the last reading, which is one transfer from the device. Raises TrainingError."""
        if not self._unread:
            return self._read[-1][1]
        values = torch.stack([loss for _, loss, _ in self._unread]).float().cpu().tolist()
        for (step, _, rate), value in zip(self._unread, values, strict=True):
            if not math.isfinite(value) or value > self._limit:
                raise self._diverged(step, value, rate)
            self._read.append((step, value, rate))
        self._unread.clear()
        return math.fsum(values) / len(values)

    def check_weights(self, network: nn.Module, step: int) -> None:
        """The last update can break the weights after the last loss was sound. Raises TrainingError."""
        sound = torch.stack([value.isfinite().all() for value in network.state_dict().values()]).all()
        if not bool(sound):
            raise self._diverged(step, math.nan, self._read[-1][2])

    @property
    def mean(self) -> float:
        return math.fsum(loss for _, loss, _ in self._read) / len(self._read)

    def points(self, count: int) -> list[dict[str, Any]]:
        """The epoch's losses as at most `count` means over neighbouring steps: step, loss, learning_rate."""
        parts = np.array_split(np.arange(len(self._read)), min(count, len(self._read)))
        return [self._point([self._read[int(i)] for i in part]) for part in parts]

    def _point(self, rows: list[tuple[int, float, float]]) -> dict[str, Any]:
        step, _, rate = rows[-1]
        return {"step": step, "loss": math.fsum(loss for _, loss, _ in rows) / len(rows), "learning_rate": rate}

    def _diverged(self, step: int, value: float, rate: float) -> TrainingError:
        lower = f"{self._recipe.learning_rate / 10:g}"
        what = f"is {value}" if not math.isfinite(value) else f"{value:.1f} is over {self._limit:.0f}, it exploded"
        return TrainingError(
            f"step {step}",
            f"the loss {what} (learning rate {rate:.3g}); the last good checkpoint is kept.",
            f"Try a tenth of the learning rate ({lower}), a longer warm-up or another optimizer.",
        )

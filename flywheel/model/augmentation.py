"""Augmentation of whole batches on the device, where the dataset lies as uint8 if it fits.

Everything random is a stateless function of (seed, epoch, step): a run that is killed and resumed sees the same
batches as one that is not.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flywheel.model.preprocessing import normalise
from flywheel.records import Preprocessing
from flywheel.settings import Recipe


def seed_of(seed: int, *where: int | str) -> int:
    """A 63-bit seed for one place in the training, independent of every other place's."""
    text = "/".join(map(str, (seed, *where)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_at(seed: int, *where: int | str) -> torch.Generator:
    """A CPU generator, so that every device draws the same numbers."""
    return torch.Generator().manual_seed(seed_of(seed, *where))


def steps_per_epoch(images: int, batch_size: int) -> int:
    """As many steps as the batch size asks for, but never a batch of one image: batch norm has no variance of one."""
    return max(1, min(-(-images // batch_size), images // 2))


def batches(images: int, recipe: Recipe, epoch: int) -> list[Tensor]:
    """The positions int64 of each step's images: a new order each epoch, every image once, sizes equal but for one."""
    order = torch.randperm(images, generator=generator_at(recipe.seed, "order", epoch))
    return list(order.tensor_split(steps_per_epoch(images, recipe.batch_size)))


@dataclass(frozen=True)
class PaddedBatch:
    """The images of one step, each with reflected borders of `shift` pixels, before anything random is done to them."""

    pixels: Tensor  # uint8[M*P*P, 3], M ≥ B
    places: Tensor  # int64[B]: which of the M each image of the step is
    positions: Tensor  # int64[B]: which of the N training images it is


@dataclass(frozen=True)
class TrainingImages:
    """The training side, wherever it lies: what augments a step's images and names their labels."""

    labels: Tensor  # int64[N], on the device
    size: int  # S: pixels a side that the network sees
    shift: int
    mirrored_first: Tensor  # int64[N], 0 or 1: whether the image is mirrored in even epochs
    preprocessing: Preprocessing
    memory_format: torch.memory_format

    def padded(self, steps: list[Tensor]) -> Iterator[PaddedBatch]:
        """The images of one step after another, on the device; `steps` are positions int64[B]."""
        raise NotImplementedError

    def batch(self, positions: Tensor, recipe: Recipe, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Fetch and augment one step's images."""
        return self.augmented(next(iter(self.padded([positions]))), recipe, epoch, step)

    def augmented(self, batch: PaddedBatch, recipe: Recipe, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Cropped, mirrored, normalised and blanked: float32[B, 3, S, S] and labels int64[B].

        Mirroring alternates: each image is seen from one side in even epochs and from the other in odd ones, which
        learns more from few epochs than a coin thrown each time (Jordan, 2024).
        """
        count, size, device = len(batch.positions), self.size, self.labels.device
        generator = generator_at(recipe.seed, "batch", epoch, step)
        offsets = torch.randint(0, 2 * self.shift + 1, (2, count, 1), generator=generator).to(device)
        place = torch.arange(size, device=device)
        columns = place.expand(count, size)
        if recipe.flip:
            mirrored = ((self.mirrored_first[batch.positions] + epoch) % 2 == 1)[:, None]
            columns = torch.where(mirrored, size - 1 - place, place)
        padded = size + 2 * self.shift
        rows = batch.places[:, None] * padded**2 + (offsets[0] + place) * padded
        where = rows[:, :, None] + (offsets[1] + columns)[:, None, :]
        pixels = batch.pixels.index_select(0, where.view(-1)).view(count, size, size, 3)
        images = normalise(pixels, self.preprocessing, self.memory_format)
        if recipe.cutout:
            centres = torch.randint(0, size, (2, count, 1), generator=generator).to(device)
            images.masked_fill_(_cutout(centres, size, recipe.cutout), 0.0)
        return images, self.labels[batch.positions]


@dataclass(frozen=True)
class ResidentImages(TrainingImages):
    """All of the training side on the device, seen as pixels: no Python runs per image."""

    pixels: Tensor  # uint8[N*P*P, 3]

    def padded(self, steps: list[Tensor]) -> Iterator[PaddedBatch]:
        for positions in steps:
            there = positions.to(self.labels.device)
            yield PaddedBatch(self.pixels, there, there)


def place_on_device(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    recipe: Recipe,
    preprocessing: Preprocessing,
    device: torch.device,
    memory_format: torch.memory_format = torch.channels_last,
) -> ResidentImages:
    """Copy the rows of a packed uint8[N, S, S, 3] onto the device, once."""
    about = describe(labels, rows, recipe, preprocessing, device, memory_format)
    padded = with_borders(images[rows], about.shift)
    return ResidentImages(**vars(about), pixels=torch.from_numpy(padded).to(device).view(-1, 3))


def describe(
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    recipe: Recipe,
    preprocessing: Preprocessing,
    device: torch.device,
    memory_format: torch.memory_format,
) -> TrainingImages:
    """What is known of the training side without its pixels."""
    first = torch.randint(0, 2, (len(rows),), generator=generator_at(recipe.seed, "mirror"))
    return TrainingImages(
        labels=torch.from_numpy(np.asarray(labels[rows], np.int64)).to(device),
        size=preprocessing.size,
        shift=largest_shift(recipe, preprocessing.size),
        mirrored_first=first.to(device),
        preprocessing=preprocessing,
        memory_format=memory_format,
    )


def largest_shift(recipe: Recipe, size: int) -> int:
    """The border's reflection leaves the edge pixel out, so a shift is cut to S - 1."""
    return min(recipe.shift, size - 1)


def with_borders(images: NDArray[np.uint8], shift: int) -> NDArray[np.uint8]:
    """uint8[N, S, S, 3] → uint8[N, S + 2·shift, S + 2·shift, 3], reflected."""
    return np.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="reflect")


def _cutout(centres: Tensor, size: int, side: int) -> Tensor:
    """bool[B, 1, S, S]: a square of `side` pixels an image (DeVries and Taylor, 2017), its centre anywhere."""
    place = torch.arange(size, device=centres.device)
    inside = (place >= centres - side // 2) & (place < centres - side // 2 + side)
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]

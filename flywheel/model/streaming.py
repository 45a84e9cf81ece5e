"""Training images that stay on disk: a PyTorch DataLoader reads each step's from the memory map, ahead of the device.

The batches are the resident ones to the bit, so where the images lie is no part of a model's identity.
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flywheel.model.augmentation import (
    PaddedBatch,
    TrainingImages,
    describe,
    largest_shift,
    place_on_device,
    with_borders,
)
from flywheel.records import Preprocessing
from flywheel.settings import Recipe

logger = logging.getLogger(__name__)

MEMORY_SHARE = 0.5  # of what is free: the rest is for the network, its gradients and everything else that runs
COPIES = 2  # the gathered rows and the bordered ones lie side by side for a moment
MOST_WORKERS = 4
CGROUP = Path("/sys/fs/cgroup")


class PaddedRows(Dataset[Tensor]):
    """Positions int64[B] → uint8[B, P, P, 3] of the memory map, which every worker opens for itself."""

    def __init__(self, images: NDArray[np.uint8], rows: NDArray[np.int64], shift: int) -> None:
        # a memory map itself would be sent to the workers pixel by pixel
        self._file = Path(str(images.filename)) if isinstance(images, np.memmap) else None
        self._images = images if self._file is None else None
        self._rows = rows
        self._shift = shift

    def __getitem__(self, positions: Tensor) -> Tensor:
        if self._images is None:
            assert self._file is not None  # noqa: S101 - for the type checker: one of the two is there
            self._images = np.load(self._file, mmap_mode="r")
        return torch.from_numpy(with_borders(self._images[self._rows[positions.numpy()]], self._shift))


@dataclass(frozen=True)
class StreamedImages(TrainingImages):
    """The training side on disk, read a step at a time by `workers` processes; 0 reads in this one."""

    dataset: PaddedRows
    workers: int

    def padded(self, steps: list[Tensor]) -> Iterator[PaddedBatch]:
        device = self.labels.device
        loader: DataLoader[Tensor] = DataLoader(
            self.dataset,
            batch_size=None,
            sampler=steps,  # an item is a whole step
            num_workers=self.workers,
            generator=torch.Generator(),  # else it draws from the global one, whose state is kept
            pin_memory=device.type == "cuda",
            # a fork would copy the locks of threads that don't run in it
            multiprocessing_context="forkserver" if self.workers else None,
        )
        for positions, pixels in zip(steps, loader, strict=True):
            places = torch.arange(len(positions), device=device)
            there = pixels.to(device, non_blocking=True).view(-1, 3)
            yield PaddedBatch(there, places, positions.to(device))


def training_images(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    recipe: Recipe,
    preprocessing: Preprocessing,
    device: torch.device,
    memory_format: torch.memory_format,
) -> TrainingImages:
    """Resident where half of the free memory holds the training side, else streamed; the log says which, and why."""
    shift = largest_shift(recipe, preprocessing.size)
    needed = 3 * len(rows) * (preprocessing.size + 2 * shift) ** 2
    limit = int(MEMORY_SHARE * free_bytes(device))
    fits = needed <= limit and COPIES * needed <= MEMORY_SHARE * free_bytes(torch.device("cpu"))
    logger.info(
        "training images are %s: %.3f GB of them, %.3f GB are allowed on %s",
        *("resident" if fits else "streamed from disk", needed / 1e9, limit / 1e9, device.type),
    )
    if fits:
        return place_on_device(images, labels, rows, recipe, preprocessing, device, memory_format)
    about = describe(labels, rows, recipe, preprocessing, device, memory_format)
    workers = min(MOST_WORKERS, os.cpu_count() or 1) if isinstance(images, np.memmap) else 0
    return StreamedImages(**vars(about), dataset=PaddedRows(images, rows, shift), workers=workers)


def free_bytes(device: torch.device) -> int:
    """Of the device's memory; of the machine's, within a container's limit, where it shares that."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min(int(psutil.virtual_memory().available), _left_in_container())


def _left_in_container() -> int:
    try:
        most, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no such files, or "max"
        return 2**63
    return max(0, most - used)

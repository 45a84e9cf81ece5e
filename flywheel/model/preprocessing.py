"""The one way from a decoded image to the network's input, for training, evaluation, monitoring and the service.

Resizing is `flywheel.data.decode.resize`; what follows it, the normalisation, is here.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flywheel.data.decode import resize
from flywheel.records import Preprocessing

CHUNK_IMAGES = 4096
SMALLEST_STD = 1 / 255  # a set of images of one flat colour has no deviation to divide by


def measure_preprocessing(images: NDArray[np.uint8], rows: NDArray[np.int64], filter_name: str) -> Preprocessing:
    """Mean and standard deviation a channel of the training rows of uint8[N, S, S, 3].

    Sums are of integers, so the same images give the same numbers on any machine, in any order.
    """
    if len(rows) == 0:
        raise ValueError("preprocessing: at least one training image expected, none found.")
    total, squares = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for start in range(0, len(rows), CHUNK_IMAGES):
        pixels = images[rows[start : start + CHUNK_IMAGES]].reshape(-1, 3).astype(np.int64)
        total += pixels.sum(0)
        squares += (pixels * pixels).sum(0)
    count = len(rows) * images.shape[1] * images.shape[2]
    mean = total / count / 255
    variance = np.maximum(squares / count / 255**2 - mean**2, SMALLEST_STD**2)
    return Preprocessing(int(images.shape[1]), filter_name, _triple(mean), _triple(np.sqrt(variance)))


def normalise(
    batch: Tensor, preprocessing: Preprocessing, memory_format: torch.memory_format = torch.channels_last
) -> Tensor:
    """uint8[N, S, S, 3] → float32[N, 3, S, S] of zero mean and unit deviation a channel, on the batch's device."""
    width = batch.shape[2]  # a row of pixels at a time: a sum over three numbers would not fill a vector
    mean = batch.new_tensor([255 * value for value in preprocessing.mean] * width, dtype=torch.float32)
    scale = batch.new_tensor([1 / (255 * value) for value in preprocessing.std] * width, dtype=torch.float32)
    pixels = batch.to(torch.float32).flatten(2).sub_(mean).mul_(scale).view(batch.shape)
    return pixels.permute(0, 3, 1, 2).contiguous(memory_format=memory_format)


def pack(images: list[NDArray[np.uint8]], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Decoded images uint8[H, W, 3] of any size → uint8[N, S, S, 3], as dataset versions are packed."""
    size = preprocessing.size
    if not images:
        return np.zeros((0, size, size, 3), np.uint8)
    return np.stack([resize(image, size, preprocessing.filter) for image in images])


def _triple(values: NDArray[Any]) -> tuple[float, float, float]:
    red, green, blue = (round(float(value), 6) for value in values)
    return red, green, blue

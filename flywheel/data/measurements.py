"""What is measured of an image beside its pixels: statistics, for validation and drift.

Images come in batches of one size and are measured together. All is a function of one image alone, so it does not
depend on the batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

STATISTICS = ("brightness", "contrast", "saturation", "sharpness", "red", "green", "blue")
LUMA_PARTS = (299, 587, 114)  # of 1,000; ITU-R BT.601
MEASURED_SIDE = 1024  # larger images are averaged down by a whole factor before they are measured


def measurable(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8[H, W, 3], no side longer than MEASURED_SIDE: what is measured of an image in its place."""
    factor = -(-max(image.shape[:2]) // MEASURED_SIDE)
    return image if factor == 1 else np.asarray(Image.fromarray(image).reduce(factor))


def statistics(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8[N, H, W, 3] → float32[N, 7], columns STATISTICS, each of pixels in 0..1.

    Brightness: mean luma. Contrast: its standard deviation. Saturation: mean of HSV's. Sharpness: the standard
    deviation of luma's Laplacian (after Pech-Pacheco et al. 2000, who take the variance). Red, green, blue: means.
    Sums are of whole numbers in float64, so their order does not show.
    """
    with _one_thread():
        return _statistics(images)


def _statistics(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    import torch

    pixels = torch.from_numpy(images)
    area, white = images.shape[1] * images.shape[2], 255.0 * sum(LUMA_PARTS)
    # whole numbers up to 255,000: exact in float32
    luma = pixels.float() @ torch.tensor(LUMA_PARTS, dtype=torch.float32)
    inner = luma[:, 1:-1, 1:-1]
    laplacian = luma[:, 2:, 1:-1] + luma[:, :-2, 1:-1] + luma[:, 1:-1, 2:] + luma[:, 1:-1, :-2] - 4 * inner
    high, low = pixels.amax(-1).float(), pixels.amin(-1).float()
    saturation = ((high - low) / high.clamp(min=1)).sum((1, 2), dtype=torch.float64) / area
    brightness, contrast = _mean_and_deviation(luma.flatten(1))
    sharpness = _mean_and_deviation(laplacian.flatten(1))[1]
    means = pixels.flatten(1, 2).sum(1, dtype=torch.int64).double() / (255.0 * area)
    columns = [brightness / white, contrast / white, saturation, sharpness / white, *means.unbind(1)]
    return np.asarray(torch.stack(columns, 1).float().numpy())


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch's threads wait for one another by spinning: two took three to five times as long over a small batch."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _mean_and_deviation(values: "Tensor") -> "tuple[Tensor, Tensor]":
    """float64[N] each, of float32[N, K]; zeros where K is 0 (an image too small for a Laplacian)."""
    import torch

    count = max(values.shape[1], 1)
    mean = values.sum(1, dtype=torch.float64) / count
    squares = values.double().square().sum(1) / count
    return mean, (squares - mean * mean).clamp(min=0).sqrt()

"""What is measured of an image beside its pixels: statistics, for validation and drift.

Images come in batches of one size and are measured together. All is a function of one image alone, so it does not
depend on the batch.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
    planes = np.ascontiguousarray(images.transpose(3, 0, 1, 2))  # a colour's pixels beside each other
    red, green, blue = planes
    area, white = images.shape[1] * images.shape[2], 255.0 * sum(LUMA_PARTS)
    of_red, of_green, of_blue = (np.float32(part) for part in LUMA_PARTS)
    luma = red * of_red  # whole numbers up to 255,000, and their Laplacian's: exact in float32
    luma += green * of_green
    luma += blue * of_blue
    laplacian = luma[:, 2:, 1:-1] + luma[:, :-2, 1:-1]
    laplacian += luma[:, 1:-1, 2:]
    laplacian += luma[:, 1:-1, :-2]
    laplacian -= luma[:, 1:-1, 1:-1] * np.float32(4)
    high, low = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    spread = (high - low).astype(np.float32) / np.maximum(high, 1).astype(np.float32)
    saturation = spread.sum((1, 2), dtype=np.float64) / area
    brightness, contrast = _mean_and_deviation(luma)
    sharpness = _mean_and_deviation(laplacian)[1]
    means = planes.reshape(3, len(images), -1).sum(2, dtype=np.int64) / (255.0 * area)
    columns = [brightness / white, contrast / white, saturation, sharpness / white, *means]
    return np.stack(columns, 1).astype(np.float32)


def _mean_and_deviation(values: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """float64[N] each, of float32[N, H, W]; zeros where an image is too small for a Laplacian."""
    exact = values.reshape(len(values), math.prod(values.shape[1:])).astype(np.float64)
    count = max(exact.shape[1], 1)
    mean = exact.sum(1) / count
    squares = np.einsum("nk,nk->n", exact, exact) / count
    return mean, np.sqrt(np.maximum(squares - mean * mean, 0))

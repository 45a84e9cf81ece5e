"""Seven corruptions at three severities, and two more for monitoring: what a camera, weather or a web page does.

After Hendrycks & Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations".
What an image becomes depends on its pixels and its id alone, bit for bit: noise is seeded by the id, sums are of whole
numbers that float32 holds exactly, and all else is done a pixel at a time. So batches, threads and memory maps don't
show, and two models are compared on the same corrupted images.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Ids = Sequence[str] | NDArray[np.str_]
SIZE = 32  # pixels a side for which the strengths are stated
SEVERITIES = (1, 2, 3)
# Chosen so that a net trained on CIFAR-10 loses little, visibly, and much. Blur grows with the image's side. Noise,
# JPEG and pixels are fine-grained: a larger image averages them out, so they grow with the root of its side, as the
# paper's values for 224 pixels about do from those for 32.
STRENGTHS: dict[str, tuple[float, float, float]] = {
    "gaussian noise": (0.015, 0.03, 0.06),  # standard deviation of pixels in 0..1
    "blur": (0.5, 0.75, 1.0),  # standard deviation in pixels
    "brightness": (0.15, 0.3, 0.45),  # added to HSV's value, in 0..1
    "contrast": (0.75, 0.5, 0.35),  # what is left of an image's distance from its mean colour
    "fog": (0.5, 1.0, 1.5),  # parts of fog to one part of image
    "jpeg": (60.0, 20.0, 10.0),  # quality
    "pixelate": (28.0, 24.0, 20.0),  # cells a side
}
FIERCER: dict[str, tuple[float, float]] = {  # severities 4 and 5, at which monitoring is tried and no gate judges
    "gaussian noise": (0.09, 0.12),
    "blur": (1.25, 1.6),
    "brightness": (0.6, 0.75),
    "contrast": (0.25, 0.15),
    "fog": (2.25, 3.0),
    "jpeg": (7.0, 5.0),
    "pixelate": (16.0, 12.0),
}
ALL_SEVERITIES = (*SEVERITIES, 4, 5)
CORRUPTIONS = tuple(STRENGTHS)
FORMULAS = 1  # raised when an image becomes another one under the same strengths
CONDITIONS = tuple((corruption, severity) for corruption in CORRUPTIONS for severity in SEVERITIES)

# What a row of a mixing matrix sums to. 255 · 256 · 256 < 2**24: float32 adds such products exactly, in any order.
WHOLE = 256
FOG_GRIDS = (2, 3, 5, 9, 17)  # points a side; each has half the weight of the one before, as clouds do


def corrupt(images: NDArray[np.uint8], ids: Ids, corruption: str, severity: int) -> NDArray[np.uint8]:
    """The corrupted copies uint8[N, S, S, 3] of images uint8[N, S, S, 3]; `ids[i]` seeds image i's randomness.

    Raises ValueError for another shape or dtype, and for a corruption or severity that isn't known.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3:
        raise ValueError(f"uint8[N, S, S, 3] expected, {images.dtype}{list(images.shape)} found.")
    if len(ids) != len(images):
        raise ValueError(f"An id an image expected, {len(images):,} images and {len(ids):,} ids found.")
    if corruption not in STRENGTHS or severity not in ALL_SEVERITIES:
        raise ValueError(f"'{corruption}' {severity}: one of {', '.join(CORRUPTIONS)} and 1 to 5 expected.")
    if len(images) == 0:
        return np.array(images)
    return APPLY[corruption](images, ids, (*STRENGTHS[corruption], *FIERCER[corruption])[severity - 1])


def gaussian_noise(images: NDArray[np.uint8], ids: Ids, deviation: float) -> NDArray[np.uint8]:
    import torch

    noise = [_generator("noise", name).standard_normal(images.shape[1:], np.float32) for name in ids]
    scale = 255 * deviation * _fineness(images)
    return _pixels(_channels(images) + torch.from_numpy(np.stack(noise)).permute(0, 3, 1, 2) * scale)


def blur(images: NDArray[np.uint8], _: Ids, deviation: float) -> NDArray[np.uint8]:
    """Gaussian; what lies beyond the edge doesn't count."""
    size = images.shape[1]
    matrix = _gaussian_matrix(size, deviation * size / SIZE)
    return _pixels(_mix(_channels(images), matrix))


def brightness(images: NDArray[np.uint8], _: Ids, added: float) -> NDArray[np.uint8]:
    """HSV's value raised, hue and saturation kept; black turns grey."""
    import torch

    pixels = _channels(images)
    value = pixels.amax(1, keepdim=True)
    raised = (value + 255 * added).clamp(max=255)
    return _pixels(torch.where(value > 0, pixels * raised / value.clamp(min=1), raised))


def contrast(images: NDArray[np.uint8], _: Ids, left: float) -> NDArray[np.uint8]:
    pixels, area = _channels(images), images.shape[1] * images.shape[2]
    mean = images.sum((1, 2), dtype=np.int64) / area
    middle = pixels.new_tensor(mean)[:, :, None, None]
    return _pixels((pixels - middle) * left + middle)


def fog(images: NDArray[np.uint8], ids: Ids, parts: float) -> NDArray[np.uint8]:
    """A bright, patchy veil: an image's own random field, smooth on many scales."""
    pixels = _channels(images)
    return _pixels((pixels + _fields(ids, images.shape[1]).to(pixels) * parts) / (1 + parts))


def jpeg(images: NDArray[np.uint8], _: Ids, quality: float) -> NDArray[np.uint8]:
    """Coded and decoded again, with colour at half the resolution, as most cameras and web sites do."""
    import simplejpeg

    used = min(100, max(1, round(quality / _fineness(images))))
    coded = (simplejpeg.encode_jpeg(np.ascontiguousarray(image), used, colorsubsampling="420") for image in images)
    return np.stack([simplejpeg.decode_jpeg(data, colorspace="RGB") for data in coded])


def pixelate(images: NDArray[np.uint8], _: Ids, cells: float) -> NDArray[np.uint8]:
    """Averaged over cells that need not be whole pixels, each then shown as one flat square."""
    size = images.shape[1]
    matrix = _cell_matrix(size, max(1, round(cells * _fineness(images))))
    return _pixels(_mix(_channels(images), matrix))


APPLY: dict[str, Callable[[NDArray[np.uint8], Ids, float], NDArray[np.uint8]]] = {
    "gaussian noise": gaussian_noise,
    "blur": blur,
    "brightness": brightness,
    "contrast": contrast,
    "fog": fog,
    "jpeg": jpeg,
    "pixelate": pixelate,
}


def _fineness(images: NDArray[np.uint8]) -> float:
    return sqrt(images.shape[1] / SIZE)


def _channels(images: NDArray[np.uint8]) -> "Tensor":
    """float32[N, 3, S, S] of grey levels; a copy, since torch can't share a read-only memory map."""
    import torch

    return torch.from_numpy(np.array(images, np.uint8)).permute(0, 3, 1, 2).float()


def _pixels(channels: "Tensor") -> NDArray[np.uint8]:
    """uint8[N, S, S, 3], rounded."""
    import torch

    found: NDArray[np.uint8] = channels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    return found


def _generator(purpose: str, name: str) -> np.random.Generator:
    """The same one for every severity of an image, so that a stronger one is more of the same."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(f"{purpose} {name}".encode()).digest()[:8], "big"))


def _mix(channels: "Tensor", matrix: NDArray[np.float32]) -> "Tensor":
    """Each row, then each column of float32[…, G, G] as a weighted mean of itself, by whole weights float32[S, G]."""
    import torch

    weights = torch.from_numpy(matrix).T
    mixed: Tensor = ((channels @ weights).mT @ weights).mT / (WHOLE * WHOLE)
    return mixed


def _whole(weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Weights float64[S, G] as whole numbers, each row with the sum WHOLE; rounding falls to a row's largest."""
    shares = np.rint(WHOLE * weights / weights.sum(axis=1, keepdims=True))
    shares[np.arange(len(shares)), shares.argmax(axis=1)] += WHOLE - shares.sum(axis=1)
    whole: NDArray[np.float32] = shares.astype(np.float32)
    return whole


@cache
def _gaussian_matrix(size: int, deviation: float) -> NDArray[np.float32]:
    place = np.arange(size)
    return _whole(np.exp(-((place[:, None] - place) ** 2) / (2 * deviation**2)))


@cache
def _cell_matrix(size: int, cells: int) -> NDArray[np.float32]:
    """A pixel's row is the cell that its middle lies in: how much of each pixel that cell covers."""
    edges, place = np.arange(cells + 1) * (size / cells), np.arange(size)
    overlap = np.minimum(place + 1, edges[1:, None]) - np.maximum(place, edges[:-1, None])
    of_pixel = np.minimum(((place + 0.5) * cells / size).astype(int), cells - 1)
    return _whole(np.clip(overlap, 0, None)[of_pixel])


@cache
def _linear_matrix(size: int, points: int) -> NDArray[np.float32]:
    """From points at equal distances, the first and last on the edges, to the pixels between them."""
    place = (np.arange(size) + 0.5) / size * (points - 1)
    return _whole(np.clip(1 - np.abs(place[:, None] - np.arange(points)), 0, None))


def _fields(ids: Ids, size: int) -> "Tensor":
    """float32[N, 1, S, S] in 0..255, one an image."""
    import torch

    points = [grid * grid for grid in FOG_GRIDS]
    drawn = np.stack([_generator("fog", name).integers(0, 256, sum(points)) for name in ids]).astype(np.float32)
    total, weight, start = torch.zeros(len(ids), 1, size, size), 1.0, 0
    for grid, count in zip(FOG_GRIDS, points, strict=True):
        values = torch.from_numpy(drawn[:, start : start + count]).reshape(-1, 1, grid, grid)
        weight, start = weight / 2, start + count
        total = total + _mix(values, _linear_matrix(size, grid)) * weight
    return total / (1 - weight)

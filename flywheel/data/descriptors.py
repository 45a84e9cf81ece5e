"""An image's shape in few numbers, for finding near duplicates. It is a function of one image alone, so it does not
depend on the batch.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from flywheel.data.measurements import LUMA_PARTS

GRID = 16  # cells a side that an image is averaged to before its descriptor is taken
FREQUENCIES = 8  # of the cosine transform, each way
DESCRIPTOR_LENGTH = FREQUENCIES * FREQUENCIES - 1  # without the mean
# Length of a descriptor in whole numbers: products of two sum to less than 2**24, so float32 adds them exactly, in any
# order, and two machines find the same duplicates.
DESCRIPTOR_SCALE = 2047
FLAT = 1e-3  # grey levels; an image with less structure has no descriptor


def descriptors(images: NDArray[np.uint8]) -> NDArray[np.int16]:
    """uint8[N, H, W, 3] → int16[N, 63]: the image's shape, for finding near duplicates.

    The luma, averaged to 16 × 16 cells, in the lowest 8 × 8 frequencies of a cosine transform without the mean (as in
    pHash, Zauner 2010), each weighted by its frequency, since natural images have amplitudes that fall as 1/f (Field
    1987); then of length DESCRIPTOR_SCALE. So brightness and contrast don't matter. A flat image gives zeros.
    """
    _, height, width, _ = images.shape
    # whole numbers, exact in float32; the float64 after them leaves rounding errors far below one step of the result.
    # No matrix product: the threads of BLAS wait by spinning, and cost more than all the rest of an index
    red, green, blue = (images[..., channel] * np.float32(part) for channel, part in enumerate(LUMA_PARTS))
    luma = red + green + blue
    spectrum = _transform(height) @ luma @ _transform(width).T / sum(LUMA_PARTS)
    shape = (spectrum * _frequency()).reshape(len(images), -1)[:, 1:]
    length = np.sqrt((shape * shape).sum(1, keepdims=True))
    unit = np.where(length > FLAT * GRID, shape / np.maximum(length, FLAT), 0.0)
    return np.asarray(np.rint(unit * DESCRIPTOR_SCALE), np.int16)


@cache
def _transform(side: int) -> NDArray[np.float64]:
    """float64[8, side]: averages a line of pixels to 16 cells and takes their lowest 8 frequencies (DCT-II)."""
    from scipy.fft import dct

    edges = np.arange(GRID + 1) * (side / GRID)
    first, last = np.arange(side), np.arange(side) + 1
    overlap = np.minimum(last, edges[1:, None]) - np.maximum(first, edges[:-1, None])
    cells = np.clip(overlap, 0, None) / (side / GRID)
    return np.asarray(dct(np.eye(GRID), axis=0, norm="ortho")[:FREQUENCIES] @ cells)


@cache
def _frequency() -> NDArray[np.float64]:
    steps = np.arange(FREQUENCIES)
    return np.hypot(steps[:, None], steps[None, :])

"""What a broken input pipeline does to images: mistakes of programs, which no training should learn.

Each takes and gives uint8[N, S, S, 3].
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]


def _twice_normalised(images: Images) -> Images:
    """Standardised by a mean and deviation as they are usual, then taken for pixels again."""
    standard = (images.astype(np.float32) / 255 - 0.48) / 0.26
    found: Images = (standard.clip(0, 1) * 255).round().astype(np.uint8)
    return found


def _without_colour(images: Images) -> Images:
    grey = images.astype(np.float32).mean(-1, keepdims=True).round().astype(np.uint8)
    return np.repeat(grey, 3, axis=-1)


BREAKAGES: dict[str, Callable[[Images], Images]] = {
    "red and blue are swapped": lambda images: images[..., ::-1],
    "images are upside down": lambda images: images[:, ::-1, ::-1],
    "images are turned by a quarter to the left": lambda images: np.rot90(images, 1, (1, 2)),
    "images are turned by a quarter to the right": lambda images: np.rot90(images, 3, (1, 2)),
    "pixels are divided by 255 twice": lambda images: (images / 255).round().astype(np.uint8),
    "images are normalised twice": _twice_normalised,
    "brightness is inverted": lambda images: 255 - images,
    "colour is lost": _without_colour,
}


def broken(images: Images, breakage: str) -> Images:
    return np.ascontiguousarray(BREAKAGES[breakage](images))

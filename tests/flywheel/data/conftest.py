"""Small sources with real pixels: smooth noise, every image another one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image


def _picture(seed: int, side: int = 32) -> NDArray[np.uint8]:
    """uint8[side, side, 3] with structure at all scales, as photographs have it."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)).resize((side, side)))
        for cells in (3, 6, 12)
    ]
    return np.asarray(sum(layer.astype(np.uint16) for layer in layers) // 3, dtype=np.uint8)


def _save(path: Path, image: NDArray[np.uint8], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)
    return path


Tree = Callable[..., Path]


@pytest.fixture
def picture() -> Callable[..., NDArray[np.uint8]]:
    return _picture


@pytest.fixture
def save() -> Callable[..., Path]:
    return _save


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Writes `count` images for each of the named class folders; class k holds pictures k * 1000 …"""

    def make(name: str = "source", classes: tuple[str, ...] = ("cat", "dog"), count: int = 40, first: int = 0) -> Path:
        for place, label in enumerate(classes):
            for number in range(first, first + count):
                _save(tmp_path / name / label / f"{number:04d}.png", _picture(place * 1000 + number))
        return tmp_path / name

    return make

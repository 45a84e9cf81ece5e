"""Tiny generated images that a tiny real model learns in a moment: each class has its own colour, under noise."""

import numpy as np
import pytest
import torch

CLASSES = ("red", "green", "blue")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def coloured():
    """(images, labels): uint8[N, 8, 8, 3] and int64[N], three classes in turn."""

    def make(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        labels = np.arange(count, dtype=np.int64) % len(CLASSES)
        images = rng.integers(0, 160, (count, 8, 8, 3))
        images[np.arange(count), :, :, labels] += 60
        return images.astype(np.uint8), labels

    return make

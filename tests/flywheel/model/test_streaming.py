import numpy as np
import pytest
import torch

from flywheel.model import streaming
from flywheel.model.augmentation import ResidentImages, batches
from flywheel.model.streaming import StreamedImages, training_images
from flywheel.records import Preprocessing
from flywheel.settings import Recipe

RECIPE = Recipe(batch_size=8, shift=2, cutout=2)
PREPROCESSING = Preprocessing(8, "box", (0.5,) * 3, (0.2,) * 3)
CPU = torch.device("cpu")


@pytest.fixture
def packed(coloured, tmp_path):
    """Images as a dataset version holds them, and rows that are not the first ones in order."""
    images, labels = coloured(40)
    np.save(tmp_path / "images.npy", images)
    return np.load(tmp_path / "images.npy", mmap_mode="r"), labels, np.arange(3, 36)[::-1].copy()


def place(packed, monkeypatch, free):
    monkeypatch.setattr(streaming, "free_bytes", lambda device: free)
    return training_images(*packed, RECIPE, PREPROCESSING, CPU, torch.channels_last)


def test_what_fits_is_resident_and_the_rest_is_streamed(packed, monkeypatch):
    needed = 33 * 12 * 12 * 3  # rows, and pixels with two of border on each side
    assert isinstance(place(packed, monkeypatch, 4 * needed), ResidentImages)
    assert isinstance(place(packed, monkeypatch, 4 * needed - 1), StreamedImages)


@pytest.mark.parametrize("workers", [0, 1])
def test_streamed_batches_are_the_resident_ones_to_the_bit(packed, monkeypatch, workers):
    resident, streamed = place(packed, monkeypatch, 2**40), place(packed, monkeypatch, 0)
    streamed = StreamedImages(**{**vars(streamed), "workers": workers})
    before = torch.get_rng_state()
    for epoch in (0, 1) if not workers else (1,):
        steps = batches(33, RECIPE, epoch)
        pairs = zip(resident.padded(steps), streamed.padded(steps), strict=True)
        for step, (one, other) in enumerate(pairs):
            expected, labels = resident.augmented(one, RECIPE, epoch, step)
            found, found_labels = streamed.augmented(other, RECIPE, epoch, step)
            assert torch.equal(expected, found)
            assert torch.equal(labels, found_labels)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_containers_limit_counts_as_the_machines(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "CGROUP", tmp_path)
    whole = streaming.free_bytes(CPU)
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert streaming.free_bytes(CPU) == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert streaming.free_bytes(CPU) == pytest.approx(whole, rel=0.5)

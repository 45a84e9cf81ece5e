import numpy as np
import pytest
import torch

from flywheel.model.preprocessing import measure_preprocessing, normalise, pack
from flywheel.records import Preprocessing


def test_mean_and_deviation_are_those_of_the_training_rows_only():
    images = np.zeros((3, 2, 2, 3), np.uint8)
    images[0], images[1], images[2] = 0, 255, 77
    found = measure_preprocessing(images, np.array([0, 1]), "bicubic")
    assert found == Preprocessing(2, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_order_doesnt_change_a_digit(coloured):
    images, _ = coloured(5000)
    rows = np.random.default_rng(1).permutation(5000)
    assert measure_preprocessing(images, rows, "box") == measure_preprocessing(images, np.sort(rows), "box")


def test_flat_images_have_no_deviation_to_divide_by():
    images = np.full((2, 2, 2, 3), 9, np.uint8)
    preprocessing = measure_preprocessing(images, np.array([0, 1]), "box")
    assert torch.isfinite(normalise(torch.from_numpy(images), preprocessing)).all()


def test_normalise_is_pixel_minus_mean_over_deviation():
    batch = torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8)
    found = normalise(batch, Preprocessing(1, "box", (0.5, 0.2, 0.0), (0.25, 0.1, 0.5)))
    assert found.shape == (1, 3, 1, 1)
    assert found.flatten().tolist() == pytest.approx([-2.0, 0.0, 2.0], abs=1e-5)


def test_normalise_leaves_the_dataset_as_it_was():
    batch = torch.full((1, 2, 2, 3), 7, dtype=torch.uint8)
    normalise(batch, Preprocessing(2, "box", (0.5,) * 3, (0.5,) * 3))
    assert batch.unique().tolist() == [7]


def test_pack_resizes_to_the_models_size():
    images = [np.full((5, 9, 3), 40, np.uint8), np.full((8, 8, 3), 90, np.uint8)]
    packed = pack(images, Preprocessing(8, "bicubic", (0.5,) * 3, (0.5,) * 3))
    assert packed.shape == (2, 8, 8, 3)
    assert [int(image.mean()) for image in packed] == [40, 90]
    assert pack([], Preprocessing(8, "bicubic", (0.5,) * 3, (0.5,) * 3)).shape == (0, 8, 8, 3)

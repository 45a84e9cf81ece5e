"""Statistics of images by hand, and descriptors that depend on one image alone."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from flywheel.data.descriptors import DESCRIPTOR_SCALE, descriptors
from flywheel.data.measurements import STATISTICS, statistics

Picture = Callable[..., NDArray[np.uint8]]


def measured(image: NDArray[np.uint8]) -> dict[str, float]:
    return dict(zip(STATISTICS, statistics(image[None])[0].tolist(), strict=True))


def test_a_flat_colour_by_hand() -> None:
    found = measured(np.full((4, 4, 3), (255, 0, 51), np.uint8))
    assert found == pytest.approx(
        {
            "brightness": 0.299 + 0.114 * 0.2,
            "contrast": 0,
            "saturation": 1,
            "sharpness": 0,
            "red": 1,
            "green": 0,
            "blue": 0.2,
        },
        abs=1e-6,
    )


def test_a_chequerboard_by_hand() -> None:
    board = np.indices((4, 4)).sum(0) % 2
    found = measured(np.repeat(board[..., None] * 255, 3, 2).astype(np.uint8))
    # inside, white has four black neighbours: -4, and black +4
    assert [found["brightness"], found["contrast"], found["sharpness"]] == pytest.approx([0.5, 0.5, 4])
    assert found["saturation"] == 0


def test_an_image_too_small_for_a_laplacian_has_sharpness_0() -> None:
    assert measured(np.zeros((2, 2, 3), np.uint8))["sharpness"] == 0


def test_measurements_do_not_depend_on_the_batch(picture: Picture) -> None:
    images = np.stack([picture(seed) for seed in range(40)])
    together, shapes = statistics(images), descriptors(images)
    for place in range(40):
        assert np.array_equal(statistics(images[place : place + 1])[0], together[place])
        assert np.array_equal(descriptors(images[place : place + 1])[0], shapes[place])


def test_a_descriptor_ignores_brightness_contrast_and_size(picture: Picture) -> None:
    image = picture(1)
    shape = descriptors(image[None])[0].astype(float)
    darker = descriptors((image // 2 + 10)[None])[0].astype(float)
    double = descriptors(image.repeat(2, 0).repeat(2, 1)[None])[0].astype(float)
    assert np.linalg.norm(shape) == pytest.approx(DESCRIPTOR_SCALE, rel=0.002)
    assert shape @ darker / DESCRIPTOR_SCALE**2 > 0.999
    assert np.abs(shape - double).max() <= 1, "each pixel four times is the same average"


def test_a_flat_image_has_no_descriptor() -> None:
    assert not descriptors(np.full((1, 32, 32, 3), 77, np.uint8)).any()


def test_products_of_descriptors_are_exact_in_float32(picture: Picture) -> None:
    shapes = descriptors(np.stack([picture(seed) for seed in range(50)]))
    exact = shapes.astype(np.int64) @ shapes.astype(np.int64).T
    assert exact.max() < 2**24
    assert np.array_equal(shapes.astype(np.float32) @ shapes.astype(np.float32).T, exact)

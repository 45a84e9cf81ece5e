"""Corruptions of parts of the photographs that come with scikit-learn."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images

from flywheel.data.decode import resize
from flywheel.evaluation import corruptions
from flywheel.evaluation.corruptions import ALL_SEVERITIES, CONDITIONS, CORRUPTIONS, SEVERITIES, STRENGTHS, corrupt


def photographs(count: int, size: int) -> np.ndarray:
    """uint8[count, size, size, 3]: squares of 200 pixels a side from two photographs, scaled."""
    pictures, rng = load_sample_images().images, np.random.default_rng(0)
    corners = zip(rng.integers(0, 427 - 200, count), rng.integers(0, 640 - 200, count), strict=True)
    squares = [pictures[i % 2][top : top + 200, left : left + 200] for i, (top, left) in enumerate(corners)]
    return np.stack([resize(np.ascontiguousarray(square), size, "bicubic") for square in squares])


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return photographs(24, 32)


@pytest.fixture(scope="module")
def ids() -> list[str]:
    return [f"image {number}" for number in range(24)]


def distortion(images: np.ndarray, changed: np.ndarray) -> float:
    return float(np.sqrt(((changed.astype(float) - images) ** 2).mean()))


@pytest.mark.parametrize("size", [32, 96])
@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_higher_severity_distorts_more(corruption, size):
    images = photographs(8, size)
    names = [str(number) for number in range(8)]
    found = [distortion(images, corrupt(images, names, corruption, severity)) for severity in ALL_SEVERITIES]
    assert 1 < found[0] < found[1] < found[2] < found[3] < found[4] < 170


@pytest.mark.parametrize(("corruption", "severity"), CONDITIONS)
def test_an_image_becomes_the_same_whatever_stands_beside_it(images, ids, corruption, severity, tmp_path):
    before = images.copy()
    whole = corrupt(images, ids, corruption, severity)
    assert whole.shape == images.shape
    assert whole.dtype == np.uint8
    assert np.array_equal(images, before)
    alone = [corrupt(images[i : i + 1], ids[i : i + 1], corruption, severity)[0] for i in range(len(images))]
    assert np.array_equal(np.stack(alone), whole)
    backwards = corrupt(images[::-1], ids[::-1], corruption, severity)
    assert np.array_equal(backwards[::-1], whole)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert np.array_equal(corrupt(mapped, np.array(ids), corruption, severity), whole)


def test_threads_dont_show(images, ids):
    one = [corrupt(images, ids, *condition) for condition in CONDITIONS]
    torch.set_num_threads(2)
    assert all(np.array_equal(corrupt(images, ids, *c), found) for c, found in zip(CONDITIONS, one, strict=True))


@pytest.mark.parametrize("corruption", ["gaussian noise", "fog"])
def test_randomness_is_the_images_own(corruption):
    grey = np.full((3, 32, 32, 3), 128, np.uint8)
    one, other, again = corrupt(grey, ["a", "b", "a"], corruption, 1)
    assert np.array_equal(one, again)
    assert distortion(one, other) > 2


def test_stronger_noise_is_more_of_the_same_and_as_strong_as_it_says():
    grey = np.full((20, 32, 32, 3), 128, np.uint8)
    names = [str(number) for number in range(20)]
    weak, strong = (corrupt(grey, names, "gaussian noise", severity).astype(float) - 128 for severity in (2, 3))
    assert np.corrcoef(weak.ravel(), strong.ravel())[0, 1] > 0.99
    assert weak.std() == pytest.approx(255 * STRENGTHS["gaussian noise"][1], rel=0.02)
    larger = corrupt(np.full((5, 128, 128, 3), 128, np.uint8), names[:5], "gaussian noise", 2).astype(float) - 128
    assert larger.std() == pytest.approx(2 * weak.std(), rel=0.02)  # √(128 / 32)


def test_blur_is_scipys_gaussian(images, ids):
    from scipy.ndimage import gaussian_filter

    found = corrupt(images, ids, "blur", 3)[:, 4:-4, 4:-4]
    expected = gaussian_filter(images.astype(float), (0, 1, 1, 0))[:, 4:-4, 4:-4]
    assert np.abs(found - expected).max() < 2


def test_blur_takes_the_same_from_a_larger_copy(images, ids):
    larger = corrupt(images.repeat(4, axis=1).repeat(4, axis=2), ids, "blur", 3)
    smaller = larger.reshape(-1, 32, 4, 32, 4, 3).mean(axis=(2, 4))
    assert np.abs(smaller - corrupt(images, ids, "blur", 3)).mean() < 1.5


def test_pixelate_shows_the_mean_of_each_cell(images, ids):
    found = corruptions.pixelate(images, ids, 16.0)
    cells = images.reshape(-1, 16, 2, 16, 2, 3).mean(axis=(2, 4))
    assert np.abs(found - cells.repeat(2, axis=1).repeat(2, axis=2)).max() <= 0.5
    uneven = corrupt(images, ids, "pixelate", 3)  # 20 cells on 32 pixels
    assert all(len({tuple(line.ravel()) for line in image}) <= 20 for image in uneven)


def test_brightness_keeps_the_hue_and_turns_black_grey():
    pixels = np.zeros((1, 2, 2, 3), np.uint8)
    pixels[0, 0, 0] = (100, 50, 0)
    pixels[0, 0, 1] = (250, 125, 0)
    found = corrupt(pixels, ["a"], "brightness", 2)[0]  # 0.3 · 255 = 76.5 is added to the largest channel
    assert found[0].tolist() == [[176, 88, 0], [255, 128, 0]]  # halves to even
    assert found[1].tolist() == [[76, 76, 76], [76, 76, 76]]


def test_contrast_draws_an_image_to_its_own_mean_colour():
    pixels = np.zeros((1, 2, 2, 3), np.uint8)
    pixels[0, 0] = (200, 100, 40)
    found = corrupt(pixels, ["a"], "contrast", 2)[0]  # half of the distance is left
    assert found[0, 0].tolist() == [150, 75, 30]
    assert found[1, 1].tolist() == [50, 25, 10]


def test_fog_brightens_and_hides(images, ids):
    foggy = [corrupt(images, ids, "fog", severity).astype(float) for severity in SEVERITIES]
    assert foggy[2].mean() > images.mean()
    fine = [np.abs(np.diff(each, axis=1)).mean() for each in (images.astype(float), *foggy)]
    assert all(more > less for more, less in pairwise(fine))


def test_jpeg_leaves_the_marks_of_its_blocks():
    noise = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    found = corrupt(noise, list("abcd"), "jpeg", 3).astype(float)
    step = np.abs(np.diff(found.mean(axis=3), axis=2)).mean(axis=(0, 1))
    on_edges = np.isin(np.arange(31) % 8, [7])
    assert step[on_edges].mean() > 1.3 * step[~on_edges].mean()


@pytest.mark.parametrize("corruption", ["blur", "contrast", "pixelate"])
def test_a_flat_image_stays_flat(corruption):
    flat = np.full((1, 32, 32, 3), 90, np.uint8)
    assert np.array_equal(corrupt(flat, ["a"], corruption, 3), flat)


def test_no_image_is_no_image():
    empty = np.zeros((0, 32, 32, 3), np.uint8)
    assert all(corrupt(empty, [], *condition).shape == empty.shape for condition in CONDITIONS)


@pytest.mark.parametrize(
    ("shape", "dtype", "names", "corruption", "severity", "told"),
    [
        ((1, 8, 8, 3), np.float32, "a", "blur", 1, "float32"),
        ((1, 8, 9, 3), np.uint8, "a", "blur", 1, r"\[1, 8, 9, 3\]"),
        ((1, 8, 8, 3), np.uint8, "ab", "blur", 1, "1 images and 2 ids"),
        ((1, 8, 8, 3), np.uint8, "a", "snow", 1, "snow"),
        ((1, 8, 8, 3), np.uint8, "a", "blur", 6, "'blur' 6"),
    ],
)
def test_what_cant_be_corrupted_is_refused(shape, dtype, names, corruption, severity, told):
    with pytest.raises(ValueError, match=told):
        corrupt(np.zeros(shape, dtype), list(names), corruption, severity)

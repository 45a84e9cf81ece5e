"""The same picture is found again after re-encoding and resizing; other pictures are not."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from flywheel.data import duplicates
from flywheel.data.descriptors import DESCRIPTOR_LENGTH, descriptors
from flywheel.data.duplicates import near_duplicates, nearest_duplicate

Picture = Callable[..., NDArray[np.uint8]]
COUNT = 200


@pytest.fixture
def pictures(picture: Picture) -> NDArray[np.uint8]:
    return np.stack([picture(seed) for seed in range(COUNT)])


def jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def resized(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((side, side)))


@pytest.mark.parametrize("change", ["jpeg 75", "jpeg 50", "half the size", "a third larger", "brighter"])
def test_changed_copies_are_found_and_only_they(pictures: NDArray[np.uint8], change: str) -> None:
    changes: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
        "jpeg 75": lambda image: jpeg(image, 75),
        "jpeg 50": lambda image: jpeg(image, 50),
        "half the size": lambda image: resized(image, 16),
        "a third larger": lambda image: resized(image, 43),
        "brighter": lambda image: np.clip(image.astype(int) + 20, 0, 255).astype(np.uint8),
    }
    copies = np.stack([changes[change](image) for image in pictures])
    pairs = near_duplicates(descriptors(copies), descriptors(pictures))
    assert (pairs.first == pairs.second).all(), "no other picture"
    assert len(pairs) >= 0.99 * COUNT
    assert pairs.similarity.min() >= duplicates.SIMILARITY


def test_of_a_set_with_itself_every_image_is_its_own_pair(pictures: NDArray[np.uint8]) -> None:
    shapes = descriptors(pictures)
    pairs = near_duplicates(shapes, shapes)
    assert pairs.first.tolist() == pairs.second.tolist() == list(range(COUNT))


def test_blocks_do_not_show(pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = descriptors(pictures)
    both = np.concatenate([shapes, shapes[::-1]])
    whole = near_duplicates(both, shapes)
    monkeypatch.setattr(duplicates, "BLOCK_ROWS", 7)
    monkeypatch.setattr(duplicates, "BLOCK_COLUMNS", 13)
    parts = near_duplicates(both, shapes)
    assert len(parts) == 2 * COUNT
    assert np.array_equal(whole.first, parts.first)
    assert np.array_equal(whole.second, parts.second)


def test_handwritten_digits_are_not_called_duplicates_in_masses() -> None:
    from sklearn.datasets import load_digits

    scans = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(scan).resize((32, 32), Image.Resampling.BICUBIC)) for scan in scans]
    shapes = descriptors(np.repeat(np.stack(large)[..., None], 3, 3))
    pairs = near_duplicates(shapes, shapes)
    others = int((pairs.first < pairs.second).sum())
    assert 0 < others <= 40, "of 1,613,706 pairs"


def test_flat_images_are_no_duplicates_of_each_other() -> None:
    flat = descriptors(np.stack([np.full((32, 32, 3), grey, np.uint8) for grey in (10, 10, 200)]))
    assert len(near_duplicates(flat, flat)) == 0


def test_simple_shapes_must_be_more_alike_than_rich_ones() -> None:
    """One frequency alone correlates by chance; the same correlation over many frequencies does not."""
    angle = np.arccos(0.97)
    simple = np.zeros((2, DESCRIPTOR_LENGTH))
    simple[:, 0] = 2000
    simple[1, :2] = 2000 * np.cos(angle), 2000 * np.sin(angle)
    rich = np.full((2, DESCRIPTOR_LENGTH), 2000 / np.sqrt(DESCRIPTOR_LENGTH))
    rich[1, ::2] *= 1 + np.tan(angle)
    rich[1, 1::2] *= 1 - np.tan(angle)
    for shapes, found in ((simple, 0), (rich, 1)):
        rounded = np.rint(shapes).astype(np.int16)
        assert len(near_duplicates(rounded[:1], rounded[1:])) == found


def test_the_nearest_is_the_most_similar_and_minus_one_where_there_is_none(pictures: NDArray[np.uint8]) -> None:
    image, far = pictures[0], pictures[1]
    second = descriptors(np.stack([jpeg(image, 50), image, image]))
    assert nearest_duplicate(descriptors(np.stack([image, far])), second).tolist() == [1, -1]


def test_empty_sets_and_wrong_shapes() -> None:
    none = np.zeros((0, DESCRIPTOR_LENGTH), np.int16)
    assert len(near_duplicates(none, none)) == 0
    assert nearest_duplicate(none, none).tolist() == []
    with pytest.raises(ValueError, match=r"\[N, 63\] expected"):
        near_duplicates(none, np.zeros((2, 3), np.int16))

import numpy as np
import pytest
import torch

from flywheel.model.augmentation import batches, place_on_device, seed_of, steps_per_epoch
from flywheel.records import Preprocessing
from flywheel.settings import Recipe

AS_IS = Preprocessing(8, "box", (0.0,) * 3, (1 / 255,) * 3)  # pixels come out as they went in
PLAIN = Recipe(flip=False, shift=0, batch_size=4)


def place(images, labels, recipe):
    rows = np.arange(len(images))
    return place_on_device(images, labels, rows, recipe, AS_IS, torch.device("cpu"))


def as_pixels(batch):
    return batch.permute(0, 2, 3, 1).round().to(torch.uint8).numpy()


def test_without_augmentation_images_are_unchanged(coloured):
    images, labels = coloured(6)
    found, found_labels = place(images, labels, PLAIN).batch(torch.tensor([4, 0]), PLAIN, epoch=0, step=0)
    assert np.array_equal(as_pixels(found), images[[4, 0]])
    assert found_labels.tolist() == [1, 0]


def test_flips_alternate_so_two_epochs_show_both_sides(coloured):
    images, labels = coloured(20)
    recipe = PLAIN.model_copy(update={"flip": True})
    data = place(images, labels, recipe)
    for position in range(20):
        seen = [as_pixels(data.batch(torch.tensor([position]), recipe, epoch, 0)[0])[0] for epoch in (0, 1)]
        sides = [images[position], images[position][:, ::-1]]
        assert any(np.array_equal(seen[0], a) and np.array_equal(seen[1], b) for a, b in (sides, sides[::-1]))
    assert 0 < int(data.mirrored_first.sum()) < 20


def test_a_shift_is_a_crop_of_the_reflected_image(coloured):
    images, labels = coloured(1)
    recipe = PLAIN.model_copy(update={"shift": 2})
    data = place(images, labels, recipe)
    padded = np.pad(images[0], ((2, 2), (2, 2), (0, 0)), mode="reflect")
    crops = {padded[y : y + 8, x : x + 8].tobytes(): (y, x) for y in range(5) for x in range(5)}
    found = {crops[as_pixels(data.batch(torch.tensor([0]), recipe, 0, step)[0])[0].tobytes()] for step in range(200)}
    assert len(found) == 25


def test_cutout_blanks_one_square_of_its_size():
    images = np.full((40, 8, 8, 3), 200, np.uint8)
    recipe = PLAIN.model_copy(update={"cutout": 3})
    found, _ = place(images, np.zeros(40, np.int64), recipe).batch(torch.arange(40), recipe, 0, 0)
    blanked = (found == 0).all(1).sum((1, 2))
    assert int(blanked.max()) == 9
    assert int(blanked.min()) >= 4  # a centre in the corner leaves 2×2 of it inside


def test_a_batch_depends_on_seed_epoch_and_step_alone(coloured):
    images, labels = coloured(8)
    recipe = Recipe(shift=2, cutout=2)
    data, positions = place(images, labels, recipe), torch.arange(8)
    first, _ = data.batch(positions, recipe, 3, 5)
    torch.manual_seed(99)
    np.random.seed(99)
    assert torch.equal(first, data.batch(positions, recipe, 3, 5)[0])
    assert not torch.equal(first, data.batch(positions, recipe, 3, 6)[0])
    assert not torch.equal(first, data.batch(positions, recipe, 5, 5)[0])


@pytest.mark.parametrize(("images", "size", "steps"), [(10, 4, 3), (8, 4, 2), (5, 4, 2), (3, 2, 1), (2, 64, 1)])
def test_no_batch_has_a_single_image_and_none_is_left_out(images, size, steps):
    parts = batches(images, Recipe(batch_size=size), epoch=0)
    assert len(parts) == steps_per_epoch(images, size) == steps
    assert min(map(len, parts)) >= 2
    assert sorted(torch.cat(parts).tolist()) == list(range(images))


def test_every_place_has_its_own_seed():
    seeds = {seed_of(seed, kind, epoch) for seed in range(3) for kind in ("order", "step") for epoch in range(50)}
    assert len(seeds) == 300
    assert all(0 <= seed < 2**63 for seed in seeds)

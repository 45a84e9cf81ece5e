"""The baseline of a real, tiny model: made of its own reference, kept beside it, and believed only while it fits."""

from dataclasses import replace

import numpy as np
import pytest

from flywheel.data.measurements import STATISTICS, statistics
from flywheel.evaluation.corruptions import CORRUPTIONS
from flywheel.model.reference import Reference, fit_projection, write_reference
from flywheel.monitoring import baseline as module
from flywheel.monitoring.accuracy_estimate import estimate
from flywheel.monitoring.baseline import fit_baseline, read_baseline, tried_rows, write_baseline
from flywheel.monitoring.breakages import BREAKAGES
from flywheel.monitoring.sample import sample_of_reference
from flywheel.records import TrainedModel

IMAGES, CLASSES, SIZE = 240, 3, 8


def predict(images):
    """Which of three bands is brightest, by a model that answers the same whatever the batch."""
    bands = images.astype(np.float32).reshape(len(images), 4, 2, SIZE, 3).mean((2, 3)) / 255
    embeddings = bands.reshape(len(images), -1)
    return 12 * bands[:, :CLASSES].mean(-1), embeddings


@pytest.fixture(scope="module")
def seen():
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, IMAGES)
    images = random.integers(0, 160, (IMAGES, SIZE, SIZE, 3))
    for row, label in enumerate(labels):
        images[row, 2 * label : 2 * label + 2] += random.integers(0, 60)
    images = images.clip(0, 255).astype(np.uint8)
    logits, embeddings = predict(images)
    ids = np.array([f"{random.integers(2**60):064x}" for _ in range(IMAGES)])
    reference = Reference(
        logits, embeddings, statistics(images), STATISTICS, labels, ids, fit_projection(embeddings), images[:8]
    )
    return reference, images


@pytest.fixture
def kept(tmp_path, seen):
    """The folder of a model, its baseline in it."""
    reference, images = seen
    write_reference(tmp_path, reference)
    model = TrainedModel.__new__(TrainedModel)
    for name, value in {"id": "model-a", "weights_sha256": "aa"}.items():
        object.__setattr__(model, name, value)
    rows = tried_rows(reference)
    write_baseline(tmp_path, fit_baseline(reference, images[rows], rows, predict), model)
    return tmp_path, reference, model


def test_it_is_the_same_whenever_it_is_made(seen):
    reference, images = seen
    rows = tried_rows(reference)
    one, other = (fit_baseline(reference, images[rows], rows, predict) for _ in range(2))
    assert (one.regressor.weights == other.regressor.weights).all()
    assert one.regressor.width == other.regressor.width
    assert all((one.signatures[name] == other.signatures[name]).all() for name in one.signatures)


def test_which_images_are_tried_hangs_on_their_ids_alone(seen):
    reference, _ = seen
    order = np.random.default_rng(1).permutation(IMAGES)
    mixed = replace(reference, ids=reference.ids[order])
    assert set(mixed.ids[tried_rows(mixed)]) == set(reference.ids[tried_rows(reference)])
    assert len(tried_rows(reference)) == IMAGES // 2


def test_what_was_kept_says_what_was_made(kept, seen):
    folder, reference, model = kept
    rows = tried_rows(reference)
    made, read = fit_baseline(reference, seen[1][rows], rows, predict), read_baseline(folder, model, reference)
    window = sample_of_reference(reference).take(slice(0, 100))
    assert estimate(read.regressor, read.yardstick, window) == estimate(made.regressor, made.yardstick, window)
    assert read.signatures.keys() == made.signatures.keys()
    assert set(read.breakages) == set(BREAKAGES)
    assert len(read.signatures) == 5 * len(CORRUPTIONS) + len(BREAKAGES)
    assert (read.tried == rows).all()


def test_one_of_another_model_or_reference_or_code_is_not_believed(kept, monkeypatch):
    folder, reference, model = kept
    other = TrainedModel.__new__(TrainedModel)
    for name, value in {"id": "model-a", "weights_sha256": "bb"}.items():
        object.__setattr__(other, name, value)
    assert read_baseline(folder, other, reference) is None
    with monkeypatch.context() as patch:
        patch.setattr(module, "CODE", ("evaluation/statistics.py",))
        assert read_baseline(folder, model, reference) is None
    assert read_baseline(folder, model, reference) is not None
    write_reference(folder, replace(reference, labels=reference.labels[::-1].copy()))
    assert read_baseline(folder, model, reference) is None


@pytest.mark.parametrize("name", ["baseline.json", "baseline.npz"])
@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: b"", lambda data: data[:99] + bytes([data[99] ^ 1]) + data[100:]]
)
def test_a_damaged_one_is_not_believed(kept, name, damage):
    folder, reference, model = kept
    file = folder / "monitoring" / name
    file.write_bytes(damage(file.read_bytes()))
    assert read_baseline(folder, model, reference) is None


def test_of_two_that_make_it_at_once_one_stays_and_nothing_is_left_over(kept, monkeypatch):
    folder, reference, model = kept
    baseline = read_baseline(folder, model, reference)
    monkeypatch.setattr(module.shutil, "rmtree", _not_of_what_stands(folder, module.shutil.rmtree))
    write_baseline(folder, baseline, model)
    assert read_baseline(folder, model, reference) is not None
    assert [each.name for each in folder.iterdir() if "monitoring" in each.name] == ["monitoring"]


def _not_of_what_stands(folder, rmtree):
    """As if the other monitor had put its own there between this one's two steps."""

    def spared(path, **rest):
        if path != folder / "monitoring":
            rmtree(path, **rest)

    return spared


def test_a_mistake_of_a_program_is_told_by_the_same_images_before_and_after(seen):
    """What it moves is no more than it does, whichever images it is tried on: colours don't move a grey world."""
    reference, images = seen
    grey = np.repeat(images[..., :1], 3, axis=-1)
    logits, embeddings = predict(grey)
    world = replace(
        reference,
        logits=logits,
        embeddings=embeddings,
        statistics=statistics(grey),
        projection=fit_projection(embeddings),
    )
    rows = tried_rows(world)
    found = fit_baseline(world, grey[rows], rows, predict)
    for name in ("red and blue are swapped", "colour is lost"):
        assert np.linalg.norm(found.signatures[name]) < 0.01, "but for the rounding of the log"
    assert np.linalg.norm(found.signatures["brightness is inverted"]) > 1


def test_images_that_do_not_fit_their_rows_are_refused(seen):
    reference, images = seen
    with pytest.raises(ValueError, match="An image a row expected, 5 images and 120 rows"):
        fit_baseline(reference, images[:5], tried_rows(reference), predict)

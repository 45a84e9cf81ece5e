import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from flywheel.identity import digest_of_file
from flywheel.model.checkpoint import find_checkpoints
from flywheel.model.folder import CHECKPOINTS, TrainingError
from flywheel.model.preprocessing import measure_preprocessing
from flywheel.model.training import fit
from flywheel.settings import Recipe

CLASSES = ("red", "green", "blue")
TINY = Recipe(epochs=3, batch_size=32, flip=False, shift=1)


@pytest.fixture
def train(coloured, tmp_path):
    def run(recipe=TINY, name="run", train_images=120, validation_images=30, on_event=lambda _: None, images=None):
        made, labels = coloured(train_images + validation_images)
        images = made if images is None else images
        rows = np.arange(len(labels))
        folder = tmp_path / name
        sides = rows[:train_images], rows[train_images:]
        preprocessing = measure_preprocessing(images, sides[0], "box")
        fitted = fit(images, labels, *sides, CLASSES, recipe, "cpu", folder, on_event, preprocessing=preprocessing)
        return fitted, folder

    return run


def test_it_learns_and_says_what_it_does(train):
    events = []
    fitted, folder = train(on_event=events.append)
    assert fitted.top1_validation > 0.9
    epochs = [event for event in events if event["event"] == "epoch"]
    assert [event["step"] for event in epochs] == [4, 8, 12]
    assert all(event["steps"] == 12 and event["images_per_second"] > 0 for event in epochs)
    history = json.loads((folder / "history.json").read_text())
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert history[0]["curve"][-1]["step"] == 4
    assert max(row["top1_validation"] for row in history) == fitted.top1_validation


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(train):
    hashes = [digest_of_file(train(TINY, name)[1] / "weights.safetensors") for name in ("a", "b")]
    other = digest_of_file(train(TINY.model_copy(update={"seed": 1}), "c")[1] / "weights.safetensors")
    assert hashes[0] == hashes[1] != other


def test_the_best_epoch_is_kept_not_the_last(train, monkeypatch):
    from flywheel.model import training

    scores = iter([0.5, 0.9, 0.9])
    monkeypatch.setattr(training, "_top1", lambda run: next(scores))
    fitted, folder = train()
    assert (fitted.best_epoch, fitted.top1_validation) == (2, 0.9)
    kept = find_checkpoints(folder / CHECKPOINTS)
    assert [checkpoint.epoch for checkpoint in kept] == [2, 3]
    final, best = load_file(folder / "weights.safetensors"), load_file(kept[0].weights)
    assert all(torch.equal(final[name], best[name]) for name in best)


@pytest.mark.parametrize(
    "changes",
    [
        {"ema": 0.9},
        {"mixup": 0.2, "cutmix": 1.0, "batch_size": 25},
        {"optimizer": "sgd", "schedule": "cosine", "cutout": 3},
        {"optimizer": "adamw", "learning_rate": 0.01, "schedule": "constant", "label_smoothing": 0.0},
    ],
)
def test_every_part_of_a_recipe_trains(train, changes):
    fitted, _ = train(TINY.model_copy(update=changes))
    assert fitted.top1_validation > 0.6


def test_a_last_batch_of_one_image_and_an_empty_validation_side_are_no_trouble(train):
    fitted, folder = train(TINY.model_copy(update={"epochs": 2}), train_images=33, validation_images=0)
    assert (fitted.best_epoch, fitted.top1_validation) == (2, 0.0)
    assert json.loads((folder / "history.json").read_text())[0]["top1_validation"] is None


def test_an_exploding_loss_ends_the_run_with_what_to_try(train):
    with pytest.raises(TrainingError, match=r"step \d+: the loss .*Try a tenth of the learning rate \(1\)"):
        train(TINY.model_copy(update={"optimizer": "sgd", "learning_rate": 10.0, "weight_decay": 1.0}))


def test_nan_is_found_at_its_step_and_the_last_good_checkpoint_is_kept(train, monkeypatch, tmp_path):
    from flywheel.model import training

    real, calls = training._step, []

    def broken_at_the_sixth(*arguments):
        calls.append(None)
        return real(*arguments) * (float("nan") if len(calls) == 6 else 1)

    monkeypatch.setattr(training, "_step", broken_at_the_sixth)
    with pytest.raises(TrainingError, match="step 6: the loss is nan"):
        train()
    assert [checkpoint.epoch for checkpoint in find_checkpoints(tmp_path / "run" / CHECKPOINTS)] == [1]


def test_one_training_image_is_too_few(train):
    with pytest.raises(TrainingError, match="at least 2 training images expected, 1 found"):
        train(train_images=1)

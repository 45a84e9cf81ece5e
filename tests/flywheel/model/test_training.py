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
    assert (fitted.best_epoch, fitted.top1_validation) == (2, None)
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


FINE = TINY.model_copy(update={"optimizer": "adamw", "learning_rate": 0.01, "head_epochs": 1, "layer_decay": 0.7})


def test_while_the_head_learns_the_backbone_and_its_statistics_stay(train):
    probe = FINE.model_copy(update={"epochs": 2, "head_epochs": 2})
    first, second = (train(probe.model_copy(update={"epochs": n, "head_epochs": n}), f"{n}")[1] for n in (1, 2))
    one, two = (load_file(find_checkpoints(folder / CHECKPOINTS)[-1].weights) for folder in (first, second))
    assert {name for name in one if not torch.equal(one[name], two[name])} == {"head.fc.weight"}
    rows = json.loads((second / "history.json").read_text())
    assert [row["head_only"] for row in rows] == [True, True]


def test_after_the_head_everything_learns_by_a_schedule_of_its_own(train, tmp_path):
    events, weights = [], []

    def keep(event):
        if event["event"] == "epoch":
            events.append(event)
            weights.append(load_file(find_checkpoints(tmp_path / "run" / CHECKPOINTS)[-1].weights))

    train(FINE, on_event=keep)
    head, _, last = weights
    assert not torch.equal(head["blocks.0.conv1.weight"], last["blocks.0.conv1.weight"])
    assert torch.equal(head["whiten.weight"], last["whiten.weight"])
    ends = [event["learning_rate"] for event in events]
    assert ends[0] == pytest.approx(1e-5)
    assert ends[2] == pytest.approx(1e-5)
    assert ends[1] > 1e-3


class Killed(BaseException):
    pass


@pytest.mark.parametrize("epochs_before", [1, 2])
def test_fine_tuning_goes_on_after_a_kill_in_either_phase_to_the_same_bits(train, epochs_before):
    recipe = FINE.model_copy(update={"ema": 0.9, "epochs": 4, "head_epochs": 2})

    def kill(event):
        if event["event"] == "step" or (event["event"] == "epoch" and event["epoch"] == epochs_before):
            raise Killed

    _, whole = train(recipe, "whole")
    with pytest.raises(Killed):
        train(recipe, "killed", on_event=kill)
    events = []
    _, resumed = train(recipe, "killed", on_event=events.append)
    assert [event["epoch"] for event in events if event["event"] == "resumed"] == [epochs_before]
    assert digest_of_file(whole / "weights.safetensors") == digest_of_file(resumed / "weights.safetensors")


@pytest.fixture
def small_device(monkeypatch):
    """A network that runs out of memory, as CUDA does, where more than `limit` images go through it in training."""
    from flywheel.model import run

    real = run.create

    def limited(limit):
        def out_of_memory(module, inputs):
            if module.training and len(inputs[0]) > limit:
                raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(inputs[0])} GiB.")

        def create(*arguments):
            network = real(*arguments)
            network.register_forward_pre_hook(out_of_memory)
            return network

        monkeypatch.setattr(run, "create", create)

    return limited


def test_out_of_memory_goes_on_with_smaller_parts_and_says_so(train, small_device, caplog):
    small_device(10)
    events = []
    fitted, folder = train(on_event=events.append)
    said = [event for event in events if event["event"] == "memory"]
    assert said == [
        {"event": "memory", "parts": 2, "images_at_once": 15},
        {"event": "memory", "parts": 4, "images_at_once": 8},
    ]
    assert (fitted.parts, fitted.top1_validation > 0.6) == (4, True)
    assert "going on with 8 images at a time" in caplog.text
    assert len(json.loads((folder / "history.json").read_text())) == 3


def test_a_run_that_was_split_resumes_split_and_to_the_same_bits(train, small_device):
    small_device(20)
    whole = train(TINY, "whole")[1]

    def kill(event):
        if event["event"] == "epoch":
            raise Killed

    with pytest.raises(Killed):
        train(TINY, "killed", on_event=kill)
    events = []
    fitted, resumed = train(TINY, "killed", on_event=events.append)
    assert fitted.parts == 2
    assert "memory" not in {event["event"] for event in events}
    assert digest_of_file(whole / "weights.safetensors") == digest_of_file(resumed / "weights.safetensors")


def test_memory_that_holds_no_two_images_ends_the_run_with_what_to_try(train, small_device):
    small_device(1)
    with pytest.raises(TrainingError, match=r"memory ran out with \d images at a time.*Try a smaller model"):
        train()


def test_the_gradients_of_parts_are_the_whole_batchs(coloured, tmp_path):
    from flywheel.model.run import start_run
    from flywheel.model.training import accumulate

    images, labels = coloured(30)
    rows = np.arange(30)
    recipe = TINY.model_copy(update={"batch_size": 30})
    run = start_run(
        *(images, labels, rows, CLASSES, recipe, torch.device("cpu")),
        *(measure_preprocessing(images, rows, "box"), tmp_path),
    )
    run.network.eval()  # batch norm would see the parts
    batch = next(iter(run.data.padded([torch.arange(30)])))
    found = []
    for parts in (1, 4):
        run.parts = parts
        run.network.zero_grad()
        found.append((accumulate(run, batch, 0, 0), run.network.blocks[1].conv2.weight.grad.clone()))
    assert found[0][0] == pytest.approx(float(found[1][0]), abs=1e-6)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-7, rtol=1e-4)


def test_images_that_do_not_fit_in_memory_give_the_same_weights(train, monkeypatch):
    from flywheel.model import streaming

    fitted, whole = train(TINY, "resident")
    monkeypatch.setattr(streaming, "free_bytes", lambda device: 0)
    events = []
    other, streamed = train(TINY, "streamed", on_event=events.append)
    assert (fitted.streamed, other.streamed) == (False, True)
    assert events[0] == {"event": "data", "images": 120, "streamed": True}
    assert digest_of_file(whole / "weights.safetensors") == digest_of_file(streamed / "weights.safetensors")


def test_one_training_image_is_too_few(train):
    with pytest.raises(TrainingError, match="at least 2 training images expected, 1 found"):
        train(train_images=1)

"""What only a GPU can show. Without one these tests are skipped."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from flywheel.model import training
from flywheel.model.architecture import create
from flywheel.model.inference import predict_logits
from flywheel.model.muon import GramMuon, orthogonalizer
from flywheel.model.schedule import create_optimizer
from flywheel.presets import CIFAR10
from flywheel.records import Preprocessing
from flywheel.settings import Recipe

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as the training process has it

CLASSES = tuple("abcd")
PREPROCESSING = Preprocessing(32, "bicubic", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
RECIPE = CIFAR10.with_options({"recipe": {"model": "airbench", "epochs": 4, "batch_size": 200}}).recipe


@pytest.fixture(scope="module")
def images():
    """Noise with a brighter quarter, which names the class."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 2000)
    pixels = generator.integers(0, 200, (2000, 32, 32, 3), dtype=np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        row, column = 16 * (label // 2), 16 * (label % 2)
        image[row : row + 16, column : column + 16] += 30
    return pixels, labels


def fit(images, folder: Path, recipe: Recipe = RECIPE, on_event=lambda _: None):
    folder.mkdir(exist_ok=True)
    pixels, labels = images
    rows = np.arange(1600)
    return training.fit(
        pixels,
        labels,
        rows,
        np.arange(1600, 2000),
        CLASSES,
        recipe,
        "cuda",
        folder,
        on_event,
        preprocessing=PREPROCESSING,
    )


class KilledError(Exception):
    pass


@pytest.mark.parametrize("changed", [{}, {"cutmix": 1.0, "cutout": 0}, {"model": "resnet18", "stem": "small"}])
def test_a_run_that_is_killed_goes_on_to_the_same_bits(images, tmp_path, changed):
    recipe = RECIPE.model_copy(update=changed)
    fitted = fit(images, tmp_path / "whole", recipe)
    assert fitted.top1_validation > 0.3  # it learns: chance is a quarter

    def die(event):
        if event["event"] == "epoch" and event["epoch"] == 2:
            raise KilledError

    with pytest.raises(KilledError):
        fit(images, tmp_path / "killed", recipe, die)
    fit(images, tmp_path / "killed", recipe)
    whole, resumed = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_batch_that_does_not_fit_is_split_until_it_does(images, tmp_path):
    free, _ = torch.cuda.mem_get_info()
    hog = torch.empty(max(0, free - 1_500_000_000), dtype=torch.uint8, device="cuda")
    heard = []
    try:
        recipe = RECIPE.model_copy(update={"model": "airbench_widest", "batch_size": 1600, "epochs": 1})
        fitted = fit(images, tmp_path / "split", recipe, heard.append)
    finally:
        del hog
        torch.cuda.empty_cache()
    assert fitted.parts >= 2
    assert [event["parts"] for event in heard if event["event"] == "memory"][-1] == fitted.parts


def test_streamed_images_train_as_resident_ones_do(images, tmp_path, monkeypatch):
    resident = fit(images, tmp_path / "resident")
    monkeypatch.setattr("flywheel.model.streaming.MEMORY_SHARE", 0.0)
    streamed = fit(images, tmp_path / "streamed")
    assert streamed.streamed
    assert not resident.streamed
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("resident", "streamed"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_gpu_answers_as_the_cpu_does(images, tmp_path):
    fit(images, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "weights.safetensors")
    answers = []
    for device in ("cpu", "cuda"):
        network = create(RECIPE.model, len(CLASSES), 32)
        network.load_state_dict(weights)
        answers.append(predict_logits(network.to(device), images[0][:256], PREPROCESSING))
    np.testing.assert_allclose(answers[0], answers[1], atol=2e-2)


def test_a_replayed_step_is_the_step(images):
    torch.manual_seed(0)
    grams = torch.randn(3, 64, 90, device="cuda")
    grams = grams @ grams.mT
    network = create("airbench_small", 4, 32).to("cuda", memory_format=torch.channels_last)
    optimizer = create_optimizer(network, Recipe())
    assert isinstance(optimizer, GramMuon)
    for scale in (1.0, 7.0):
        assert torch.equal(optimizer._factors(64, scale * grams).clone(), orthogonalizer(scale * grams))

"""The engine that serves a model: exported, compared, timed and written down for real."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from flywheel.model.architecture import create
from flywheel.model.inference import Classifier, ModelError, load_model
from flywheel.records import Interval, TrainedModel, to_json
from flywheel.runtime import choice
from flywheel.runtime.choice import choose, chosen_runtime, demand_agreement
from flywheel.runtime.export import ExportError, export
from flywheel.runtime.record import FOLDER, GRAPH, RECORD, Engine, Timing, read_runtime, runtime_files
from flywheel.runtime.running import OnnxModel, engine_of, load_onnx, load_running
from tests.bentos.classifier.conftest import write_model

NETS = (
    ("airbench_small", False),
    ("airbench_small", True),
    ("resnet10t", False),
    ("mobilenetv3_small_050", True),
    ("convnext_atto", False),
    ("vit_tiny_patch16_224", False),
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return write_model(tmp_path_factory.mktemp("home") / "models" / "model-0123456789ab", 0)


@pytest.fixture
def model(written: TrainedModel, tmp_path: Path) -> TrainedModel:
    """A folder of its own, without what another test chose."""
    folder = tmp_path / written.id
    shutil.copytree(written.folder, folder, ignore=shutil.ignore_patterns(FOLDER))
    return replace(written, folder=folder)


def samples_of(classifier: Classifier, count: int = 5) -> np.ndarray:
    size = classifier.model.preprocessing.size
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize(("architecture", "both_sides"), NETS)
def test_the_graph_answers_as_torch_does(
    written: TrainedModel, tmp_path: Path, architecture: str, both_sides: bool
) -> None:
    torch.manual_seed(0)
    network = create(architecture, 7, 32).eval().requires_grad_(False)
    told = replace(written, architecture=architecture, both_sides=both_sides, temperature=0.7)
    classifier = Classifier(told, network)
    export(classifier, tmp_path / GRAPH)
    onnx = load_onnx(classifier.model, tmp_path / GRAPH)
    demand_agreement(classifier, onnx, samples_of(classifier))
    for count in (1, 3, 64):
        images = samples_of(classifier, count)
        ours, theirs = classifier.predict_packed(images), onnx.predict_packed(images)
        assert np.abs(ours.logits - theirs.logits).max() < 1e-4
        assert ours.embeddings.shape == theirs.embeddings.shape
        assert theirs.logits.dtype == theirs.embeddings.dtype == np.float32


def test_the_choice_is_measured_once_and_read_after_that(model: TrainedModel) -> None:
    assert read_runtime(model.folder, model) is None
    runtime = chosen_runtime(model.folder)
    assert runtime.engine is Engine.ONNX  # a third of torch's time for one image of this net
    assert runtime.difference is not None
    assert runtime.difference < 1e-4
    assert [timing.batch for timing in runtime.timings] == [1, 16]
    assert "of torch's time" in runtime.reason
    assert chosen_runtime(model.folder) == runtime == read_runtime(model.folder, model)
    assert {file.name for file in (model.folder / FOLDER).iterdir()} == {RECORD, GRAPH}
    assert runtime_files(runtime) == (f"{FOLDER}/{RECORD}", f"{FOLDER}/{GRAPH}")
    assert not list(model.folder.glob(".runtime-*"))
    running = load_running(model.folder)
    assert engine_of(running) is Engine.ONNX
    images = samples_of(load_model(model.folder))
    assert (
        np.abs(running.predict_packed(images).logits - load_model(model.folder).predict_packed(images).logits).max()
        < 1e-4
    )
    photos = [np.full((40, 50, 3), 99, np.uint8)]
    assert np.abs(running.classify(photos).logits - load_model(model.folder).classify(photos).logits).max() < 1e-4


@pytest.mark.parametrize("ratio", [None, Interval(0.9, 0.7, 1.0), Interval(1.4, 1.2, 1.6)])
def test_what_is_not_faster_for_sure_is_not_taken(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch, ratio: Interval | None
) -> None:
    monkeypatch.setattr(choice, "_timed", lambda *given: Timing(given[-1], ratio, 9))
    runtime = chosen_runtime(model.folder)
    assert runtime.engine is Engine.TORCH
    assert "not faster for sure" in runtime.reason
    assert [file.name for file in (model.folder / FOLDER).iterdir()] == [RECORD]
    assert runtime_files(runtime) == (f"{FOLDER}/{RECORD}",)
    assert engine_of(load_running(model.folder)) is Engine.TORCH


def test_a_network_that_cant_be_exported_is_served_by_torch(model: TrainedModel, tmp_path: Path) -> None:
    class Odd(nn.Module):
        """An operation that ONNX lacks."""

        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network
            self.forward_head = network.forward_head

        def forward_features(self, pixels: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = self.network.forward_features(torch.special.bessel_j0(pixels))
            return features

    classifier = load_model(model.folder)
    odd = replace(classifier, network=Odd(classifier.network).eval())
    with pytest.raises(ExportError, match="bessel"):
        export(odd, tmp_path / GRAPH)
    runtime = choose(odd, samples_of(classifier), tmp_path)
    assert runtime.engine is Engine.TORCH
    assert "can't be served by ONNX Runtime" in runtime.reason


def test_a_graph_that_answers_otherwise_is_not_taken(
    model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = load_model(write_model(tmp_path / "models" / "model-ba9876543210", 1).folder)
    monkeypatch.setattr(choice, "export", lambda _, file: export(other, file))
    runtime = chosen_runtime(model.folder)
    assert runtime.engine is Engine.TORCH
    assert "apart from torch's" in runtime.reason


def test_without_onnx_runtime_torch_answers(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen_runtime(model.folder)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert engine_of(load_running(model.folder)) is Engine.TORCH
    shutil.rmtree(model.folder / FOLDER)
    assert chosen_runtime(model.folder).reason == "ONNX Runtime is not installed."


def test_damage_is_told_and_never_served(model: TrainedModel) -> None:
    runtime = chosen_runtime(model.folder)
    folder = model.folder / FOLDER
    graph = (folder / GRAPH).read_bytes()
    (folder / GRAPH).write_bytes(graph[:-1] + bytes([graph[-1] ^ 1]))
    with pytest.raises(ModelError, match=r"SHA-256 .* expected"):
        load_running(model.folder)
    (folder / GRAPH).unlink()
    with pytest.raises(ModelError, match="no file found"):
        chosen_runtime(model.folder)
    (folder / RECORD).write_text(to_json(replace(runtime, weights_sha256="0" * 64)), encoding="utf-8")
    with pytest.raises(ModelError, match="other weights"):
        load_running(model.folder)
    (folder / RECORD).write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="Delete the folder 'runtime'"):
        load_running(model.folder)


def test_no_graph_and_no_image_of_it_end_in_a_sentence(model: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / GRAPH).write_bytes(b"no graph")
    with pytest.raises(ModelError, match="can't be loaded"):
        load_onnx(model, tmp_path / GRAPH)
    chosen_runtime(model.folder)
    running = load_running(model.folder)
    assert isinstance(running, OnnxModel)
    for wrong in (np.zeros((1, 9, 9, 3), np.uint8), np.zeros((1, 32, 32, 3), np.float32)):
        with pytest.raises(ModelError, match=r"uint8\[N, 32, 32, 3\] expected"):
            running.predict_packed(wrong)

"""Weights by file and by hub; the hub here is a cache folder, a closed port, or a host that never answers."""

import json
import socket
import time
from dataclasses import replace

import pytest
import torch

from flywheel.identity import digest_of_file
from flywheel.model import hub
from flywheel.model.architecture import create
from flywheel.model.checkpoint import save_weights
from flywheel.model.folder import MANIFEST, ModelError, write_manifest
from flywheel.model.initial_weights import find_initial_weights, pack_for
from flywheel.records import Preprocessing, TrainedModel
from flywheel.settings import DataParameters, Recipe

HALVES = (0.5, 0.5, 0.5)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "given.safetensors"
    save_weights(create("test_resnet", 7, 32).state_dict(), path)
    return path


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "USERS_CACHE", tmp_path / "home" / "hub")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "hub"


def of_file(path, model="test_resnet"):
    return find_initial_weights(Recipe(model=model, weights=str(path)))


def test_no_weights_are_asked_for():
    assert find_initial_weights(Recipe()) is None


def test_the_configuration_is_timms_for_the_name(file):
    found = of_file(file)
    assert found.sha256 == digest_of_file(file)
    assert found.preprocessing == Preprocessing(160, "bilinear", HALVES, HALVES)


def test_a_config_beside_the_file_wins_where_it_is_of_the_architecture(file):
    cfg = {"input_size": [3, 96, 96], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bilinear"}
    beside = file.with_name("config.json")
    beside.write_text(json.dumps({"architecture": "test_resnet", "pretrained_cfg": cfg}))
    assert of_file(file).preprocessing == Preprocessing(96, "bilinear", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    beside.write_text(json.dumps({"architecture": "another", "pretrained_cfg": cfg}))
    assert of_file(file).preprocessing.size == 160
    beside.write_text("no json")
    assert of_file(file).preprocessing.size == 160


def test_a_model_of_flywheels_own_brings_its_preprocessing(tmp_path):
    save_weights(create("airbench_small", 2, 16).state_dict(), tmp_path / "weights.safetensors")
    assert of_file(tmp_path / "weights.safetensors", "airbench_small").preprocessing is None
    own = Preprocessing(16, "box", (0.3,) * 3, (0.2,) * 3)
    model = TrainedModel(
        *("model-1", tmp_path, "ds-1", "task-1", "airbench_small", ("a", "b"), own),
        *(10, 0, 1, "cpu", 1, 1, 0.5, "", 1.0, 2.0),
    )
    write_manifest(tmp_path, model, {}, {})
    assert (tmp_path / MANIFEST).is_file()
    assert of_file(tmp_path / "weights.safetensors", "airbench_small").preprocessing == own


def test_size_and_filter_are_the_users_then_the_weights_then_the_defaults(file):
    weights = replace(of_file(file), preprocessing=Preprocessing(96, "bilinear", HALVES, HALVES))
    plain = pack_for(DataParameters(), None)
    assert (plain.size, plain.filter) == (32, "bicubic")
    asked = pack_for(DataParameters(), weights)
    assert (asked.size, asked.filter) == (96, "bilinear")
    chosen = pack_for(DataParameters(size=64, filter="box"), weights)
    assert (chosen.size, chosen.filter) == (64, "box")


def test_a_missing_file_and_a_pickle_are_refused(tmp_path):
    with pytest.raises(ModelError, match=r"absent\.safetensors: a file of weights expected, none found"):
        of_file(tmp_path / "absent.safetensors")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(ModelError, match=r"unreadable as such.*a pickle.*isn't loaded"):
        of_file(tmp_path / "weights.safetensors")


def test_a_folder_is_no_file_of_weights(tmp_path):
    with pytest.raises(ModelError, match="a file of weights expected, a folder found"):
        find_initial_weights(Recipe(weights=str(tmp_path)))


def test_an_unknown_model_is_answered_with_near_names(file):
    with pytest.raises(ModelError, match=r"Did you mean .*test_resnet"):
        of_file(file, "test_resnett")


def test_a_net_without_published_weights_says_so(empty_cache):
    with pytest.raises(ModelError, match=r"'airbench_small': pretrained weights expected, timm names none"):
        find_initial_weights(Recipe(pretrained=True))


@pytest.mark.parametrize("whose", ["the project's", "the user's"])
def test_the_local_cache_is_enough(empty_cache, file, monkeypatch, whose):
    monkeypatch.setattr(hub, "why_silent", lambda url, seconds: pytest.fail("the network was asked"))
    cache = empty_cache if whose == "the project's" else hub.USERS_CACHE
    repository = cache / "models--timm--test_resnet.r160_in1k"
    snapshot = repository / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    (snapshot / "model.safetensors").write_bytes(file.read_bytes())
    found = find_initial_weights(Recipe(model="test_resnet", pretrained=True))
    assert found.origin == "timm/test_resnet.r160_in1k@abc123"
    assert found.sha256 == digest_of_file(file)


def test_a_hub_that_refuses_is_an_error_at_once_that_says_what_to_do(empty_cache, monkeypatch):
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    began = time.monotonic()
    with pytest.raises(ModelError, match=r"test_resnet.*in no local cache.*refused.*WEIGHTS=file\.safetensors"):
        find_initial_weights(Recipe(model="test_resnet", pretrained=True))
    assert time.monotonic() - began < 5


def test_a_hub_that_never_answers_is_given_up(empty_cache, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(hub, "SECONDS_TO_ANSWER", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(ModelError, match=r"timed out|no answer within 1 s"):
            find_initial_weights(Recipe(model="test_resnet", pretrained=True))
        assert time.monotonic() - began < 5


def test_offline_mode_asks_nobody(empty_cache, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "why_silent", lambda url, seconds: pytest.fail("the network was asked"))
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        find_initial_weights(Recipe(model="test_resnet", pretrained=True))

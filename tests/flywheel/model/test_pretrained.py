import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flywheel.model.architecture import create
from flywheel.model.checkpoint import save_weights
from flywheel.model.folder import ModelError
from flywheel.model.pretrained import create_from, head_names
from flywheel.records import InitialWeights


@pytest.fixture
def saved(tmp_path):
    """A function that keeps a network's weights as a file that training can begin with."""

    def save(network, without=(), name="weights.safetensors"):
        tensors = {key: value for key, value in network.state_dict().items() if key not in without}
        save_weights(tensors, tmp_path / name)
        return InitialWeights(tmp_path / name, "", name, None)

    return save


@pytest.mark.parametrize("name", ["airbench_small", "test_resnet", "test_efficientnet", "test_vit"])
def test_all_weights_come_from_the_file_but_a_head_of_other_classes(saved, name, caplog):
    given = create(name, 7, 32)
    weights = saved(given)
    same, other = create_from(weights, name, 7, 32), create_from(weights, name, 4, 32)
    head = head_names(given)
    assert head
    for key, value in given.state_dict().items():
        assert torch.equal(same.state_dict()[key], value)
        assert torch.equal(other.state_dict()[key], value) or key in head
    assert other.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 4)


def test_the_log_says_what_became_of_the_head(saved, caplog):
    caplog.set_level(logging.INFO)
    weights = saved(create("test_resnet", 7, 32))
    create_from(weights, "test_resnet", 4, 32)
    assert "its head of 7 classes is replaced by a new one of 4" in caplog.text
    create_from(weights, "test_resnet", 7, 32)
    assert "its head of 7 classes included" in caplog.text


def test_a_file_without_a_head_gets_one(saved):
    given = create("test_vit", 7, 32)
    weights = saved(given, without=head_names(given))
    network = create_from(weights, "test_vit", 5, 64)
    assert network.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 5)
    assert torch.equal(network.blocks[0].attn.qkv.weight, given.blocks[0].attn.qkv.weight)


def test_a_transformer_is_adapted_to_another_size(saved):
    given = create("test_vit", 7, 160)
    network = create_from(saved(given), "test_vit", 3, 64)
    assert network.pos_embed.shape[1] < given.pos_embed.shape[1]
    assert torch.equal(network.blocks[1].mlp.fc1.weight, given.blocks[1].mlp.fc1.weight)


def test_a_stock_stem_becomes_a_small_one_with_its_weights(saved):
    given = create("resnet18", 7, 32)
    network = create_from(saved(given), "resnet18", 3, 32, "small")
    assert torch.equal(network.conv1.weight, given.conv1.weight[:, :, 2:5, 2:5])
    again = create_from(saved(network), "resnet18", 3, 32, "small")  # a model of flywheel's own
    assert torch.equal(again.conv1.weight, network.conv1.weight)


def test_another_models_tensors_are_named(saved):
    weights = replace(saved(create("test_resnet", 7, 32)), file=Path(saved(create("test_resnet", 7, 32)).file))
    with pytest.raises(ModelError, match=r"the weights of 'test_efficientnet' expected, \d+ tensors don't fit: \w"):
        create_from(weights, "test_efficientnet", 3, 32)


def test_weights_that_are_no_numbers_are_refused_by_the_tensor(saved):
    given = create("test_resnet", 7, 32)
    given.conv1[0].weight.data[0] = torch.nan
    with pytest.raises(ModelError, match=r"1 tensors hold NaN or infinite ones \(conv1\.0\.weight"):
        create_from(saved(given), "test_resnet", 7, 32)


def test_one_missing_tensor_is_an_error_not_a_random_layer(saved):
    weights = saved(create("test_resnet", 7, 32), without={"layer1.0.conv1.weight"})
    with pytest.raises(ModelError, match=r"1 tensors don't fit: layer1\.0\.conv1\.weight: missing"):
        create_from(weights, "test_resnet", 7, 32)


def test_one_tensor_of_another_shape_is_an_error_with_both_shapes(saved):
    given = create("test_resnet", 7, 32)
    given.layer1[0].bn1.weight = torch.nn.Parameter(torch.ones(5))
    with pytest.raises(ModelError, match=r"layer1\.0\.bn1\.weight: \[\d+\] expected, \[5\] found"):
        create_from(saved(given), "test_resnet", 3, 32)

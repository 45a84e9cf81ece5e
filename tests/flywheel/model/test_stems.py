import pytest
import torch

from flywheel.model.architecture import create
from flywheel.model.folder import ModelError


@pytest.mark.parametrize(
    ("name", "side"),
    [("resnet18", 4), ("resnet10t", 2), ("mobilenetv3_small_050", 2), ("test_efficientnet", 2), ("convnext_atto", 4)],
)
def test_a_small_stem_leaves_more_of_a_small_image(name, side):
    stock, small = (create(name, 3, 32, stem).eval() for stem in ("stock", "small"))
    images = torch.zeros(1, 3, 32, 32)
    assert small.forward_features(images).shape[-1] == side
    assert stock.forward_features(images).shape[-1] < side
    assert small(images).shape == (1, 3)


def test_a_transformer_gets_small_patches():
    assert create("deit_tiny_patch16_224", 3, 32, "small").patch_embed.grid_size == (8, 8)


def test_a_3x3_convolution_is_the_middle_of_the_7x7_one():
    torch.manual_seed(0)
    stock = create("resnet18", 2, 32)
    torch.manual_seed(0)
    small = create("resnet18", 2, 32, "small")
    assert torch.equal(small.conv1.weight, stock.conv1.weight[:, :, 2:5, 2:5])
    assert torch.equal(small.layer4[1].conv2.weight, stock.layer4[1].conv2.weight)


def test_the_own_net_is_for_small_images_already():
    images = torch.zeros(1, 3, 32, 32)
    shapes = {create("airbench_small", 2, 32, stem).forward_features(images).shape for stem in ("stock", "small")}
    assert len(shapes) == 1


def test_a_net_without_a_known_small_stem_is_refused():
    with pytest.raises(ModelError, match=r"'densenet121'.*Leave STEM out"):
        create("densenet121", 2, 32, "small")

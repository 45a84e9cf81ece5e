import pytest
import timm
import torch

from flywheel.model.architecture import create, memory_format, parameter_count, register
from flywheel.model.folder import ModelError


def test_the_own_net_has_timms_interface():
    register()
    network = timm.create_model("airbench_small", num_classes=7).eval()
    images = torch.rand(2, 3, 32, 32)
    features = network.forward_features(images)
    assert network.forward_head(features, pre_logits=True).shape == (2, network.num_features)
    assert torch.equal(network.forward_head(features), network(images))
    network.reset_classifier(3)
    assert network(images).shape == (2, 3)
    pyramid = timm.create_model("airbench_small", features_only=True)
    assert [tuple(level.shape[1:]) for level in pyramid(images)] == [(16, 15, 15), (32, 7, 7), (64, 3, 3)]


def test_parameters_are_as_counted_by_hand():
    # whitening 24·12 + 24; per block 9·in·out + 9·out·out + two norms of 2·out; head 64·10
    blocks = sum(9 * i * o + 9 * o * o + 4 * o for i, o in ((24, 16), (16, 32), (32, 64)))
    assert parameter_count(create("airbench_small", 10, 32)) == 24 * 12 + 24 + blocks + 640


def test_the_stem_whitens_the_patches_it_was_fitted_on():
    network = create("airbench_small", 10, 32)
    images = torch.randn(50, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images = images.cumsum(3) + 0.5 * images.mean(1, keepdim=True)  # neighbours and channels go together
    network.fit_stem(images)
    with torch.no_grad():
        answers = network.whiten(images)[:, :12].transpose(0, 1).flatten(1)
    covariance = torch.cov(answers)
    assert torch.allclose(covariance, torch.eye(12), atol=0.02)
    assert torch.equal(network.whiten.weight[:12], -network.whiten.weight[12:])


def test_small_and_odd_sizes_go_through():
    network = create("airbench_small", 4, 8).eval()
    for size in (8, 9, 33, 64):
        assert network(torch.zeros(1, 3, size, size)).shape == (1, 4)


def test_a_transformer_is_built_for_the_packed_size():
    assert create("vit_tiny_patch16_224", 5, 32).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 5)


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(ModelError, match=r"airbench_smal.*Did you mean airbench_small"):
        create("airbench_smal", 10, 32)


def test_an_unknown_tag_is_answered_with_those_there_are():
    with pytest.raises(ModelError, match=r"lite0\.nonsense.*expected: tf_efficientnet_lite0\.in1k"):
        create("tf_efficientnet_lite0.nonsense", 10, 32)


def test_nets_that_crash_in_channels_last_are_kept_out_of_it():
    assert memory_format(create("repvgg_a0", 2, 32)) is torch.contiguous_format
    assert memory_format(create("airbench_small", 2, 32)) is torch.channels_last

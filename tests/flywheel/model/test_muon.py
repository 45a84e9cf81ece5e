import copy

import pytest
import torch
from torch import nn

from flywheel.model.muon import GramMuon, orthogonalizer
from flywheel.model.schedule import create_optimizer
from flywheel.settings import Recipe


@pytest.fixture
def network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), nn.Flatten(), nn.Linear(8, 40))
    net.add_module("down", nn.Linear(40, 5))
    net.add_module("transposed", nn.Linear(16, 16, bias=False))
    return net.to(memory_format=torch.channels_last)


def steps(network, optimizer, count=3):
    """Weights after updates by gradients that are the same for every optimizer."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        for name, parameter in network.named_parameters():
            gradient = torch.randn(parameter.shape, generator=generator)
            parameter.grad = None if name == "down.bias" else gradient
        optimizer.step()
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


def test_it_updates_as_timm_does_but_for_the_rounding_of_bfloat16(network):
    from timm.optim import create_optimizer_v2

    network.transposed.weight = nn.Parameter(torch.randn(16, 16).T)  # not in rows: timm's own step does it
    start = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    theirs = copy.deepcopy(network)
    options = {"lr": 0.02, "weight_decay": 0.1}
    expected = steps(theirs, create_optimizer_v2(theirs, "muon", **options))
    recipe = Recipe(learning_rate=options["lr"], weight_decay=options["weight_decay"])
    optimizer = create_optimizer(network, recipe)
    assert isinstance(optimizer, GramMuon)
    found = steps(network, optimizer)
    for name in expected:
        moved = (expected[name] - start[name]).norm()
        assert (found[name] - expected[name]).norm() <= 0.02 * moved, name
    assert torch.equal(found["down.bias"], start["down.bias"])
    assert not torch.equal(found["0.weight"], start["0.weight"])


def test_the_step_is_along_an_orthogonal_matrix():
    wide = torch.randn(4, 30, generator=torch.Generator().manual_seed(2))
    stacked = torch.stack([wide, 1000 * wide, wide.double().pow(3).float()])
    factors = orthogonalizer(stacked @ stacked.mT)
    values = torch.linalg.svdvals(factors @ stacked)
    assert values.min() > 0.6
    assert values.max() < 1.3
    torch.testing.assert_close(factors[0] @ wide, factors[1] @ (1000 * wide), rtol=1e-4, atol=1e-5)


def test_a_gradient_of_zero_moves_nothing():
    factors = orthogonalizer(torch.zeros(1, 3, 3))
    assert torch.isfinite(factors).all()
    assert torch.equal(factors @ torch.zeros(3, 5), torch.zeros(1, 3, 5))


def test_gradients_are_still_there_after_a_step(network):
    steps(network, create_optimizer(network, Recipe()), 1)
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == ["down.bias"]

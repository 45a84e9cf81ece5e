import pytest

from flywheel.model.architecture import create
from flywheel.model.folder import ModelError
from flywheel.model.schedule import create_optimizer, learning_rate_share
from flywheel.settings import Recipe


def test_the_triangle_rises_and_falls_in_straight_lines():
    recipe = Recipe(schedule="triangle", warmup=0.4)
    shares = [learning_rate_share(recipe, step, 10) for step in range(10)]
    assert shares[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert shares[4:] == pytest.approx([0.8335, 0.667, 0.5005, 0.334, 0.1675, 0.001])


def test_the_cosine_is_half_way_down_in_the_middle():
    recipe = Recipe(schedule="cosine", warmup=0)
    assert learning_rate_share(recipe, 4, 10) == pytest.approx(0.5005)


def test_constant_stays_after_the_warm_up():
    recipe = Recipe(schedule="constant", warmup=0.5)
    assert [learning_rate_share(recipe, step, 4) for step in range(4)] == [0.5, 1, 1, 1]


def test_an_unknown_optimizer_is_named():
    with pytest.raises(ModelError, match="optimizer 'adamm'"):
        create_optimizer(create("airbench_small", 2, 8), Recipe(optimizer="adamm"))


def test_frozen_weights_get_no_optimizer():
    network = create("airbench_small", 2, 8)
    learned = {id(p) for group in create_optimizer(network, Recipe()).param_groups for p in group["params"]}
    assert id(network.whiten.weight) not in learned
    assert id(network.head.fc.weight) in learned

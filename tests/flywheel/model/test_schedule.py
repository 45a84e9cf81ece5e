import pytest

from flywheel.model.architecture import create
from flywheel.model.folder import ModelError
from flywheel.model.schedule import Phase, create_optimizer, learning_rate_share, phase_of
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


def test_the_head_comes_first_then_everything():
    recipe = Recipe(epochs=3, head_epochs=1)
    phases = [phase_of(recipe, epoch) for epoch in range(3)]
    assert phases == [Phase(0, 1, True), Phase(1, 2, False), Phase(1, 2, False)]
    assert phase_of(Recipe(epochs=2, head_epochs=2), 1) == Phase(0, 2, True)
    assert phase_of(Recipe(epochs=2), 1) == Phase(0, 2, False)


def test_layer_decay_halves_the_rate_from_each_layer_to_the_one_below():
    network = create("airbench_small", 2, 8)
    recipe = Recipe(optimizer="adamw", layer_decay=0.5)
    scales = {id(p): g["lr_scale"] for g in create_optimizer(network, recipe).param_groups for p in g["params"]}
    # stem, three blocks, head
    assert scales[id(network.head.fc.weight)] == 1
    assert [scales[id(block.conv1.weight)] for block in network.blocks] == [0.125, 0.25, 0.5]


def test_frozen_weights_get_no_optimizer():
    network = create("airbench_small", 2, 8)
    learned = {id(p) for group in create_optimizer(network, Recipe()).param_groups for p in group["params"]}
    assert id(network.whiten.weight) not in learned
    assert id(network.head.fc.weight) in learned

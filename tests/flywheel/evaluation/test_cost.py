"""Cost by a clock that is turned by hand, and by a real one on real nets."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from flywheel.evaluation.cost import BATCH, FEWEST_ROUNDS, MOST_ROUNDS, Cost, CostError, compare_cost, median_ratio
from flywheel.model.architecture import create, memory_format
from flywheel.model.inference import Classifier
from flywheel.records import Preprocessing, TrainedModel, from_json, to_json

ENOUGH = {"rounds": 15, "seconds": 120}  # a busy machine shall not make a test fail
IMAGES = np.random.default_rng(0).integers(0, 256, (48, 32, 32, 3), dtype=np.uint8)


@dataclass
class HandClock:
    """Goes on only when a model answers; the machine may become slower by and by."""

    now: float = 0.0
    slowing: float = 0.0  # share of a call's cost that every call adds
    calls: list[tuple[str, bytes]] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def model(self, name: str, call: float, image: float = 0.0, weights: int = 1) -> SimpleNamespace:
        """Takes so many seconds a call and an image."""

        def classify(images):
            self.calls.append((name, b"".join(pixels.tobytes() for pixels in images)))
            self.now += (call + image * len(images)) * (1 + self.slowing * len(self.calls))

        network = SimpleNamespace(state_dict=lambda: {"weight": torch.zeros(weights)})
        return SimpleNamespace(model=SimpleNamespace(id=name), network=network, classify=classify)


def compare(clock: HandClock, challenger: SimpleNamespace, champion: SimpleNamespace, **more) -> Cost:
    return compare_cost(challenger, champion, IMAGES, **{"clock": clock, "timer": clock, **more})


def test_ratios_of_latency_and_size():
    clock = HandClock()
    found = compare(clock, clock.model("a", 0.001, 0.002, weights=30), clock.model("b", 0.001, 0.001, weights=20))
    assert (found.single.ratio.value, found.single.ratio.low, found.single.ratio.high) == pytest.approx((1.5,) * 3)
    assert found.batch.ratio.value == pytest.approx(65 / 33)
    assert (found.single.batch, found.batch.batch) == (1, BATCH)
    assert (found.single.challenger_ms, found.single.champion_ms) == pytest.approx((3, 2))
    assert (found.bytes_ratio, found.challenger_bytes, found.champion_bytes) == (1.5, 120, 80)
    assert (found.challenger_id, found.champion_id) == ("a", "b")
    assert from_json(Cost, to_json(found)) == found


def test_batches_are_left_out_where_nobody_asks_for_them():
    clock = HandClock()
    found = compare(clock, clock.model("a", 0.002), clock.model("b", 0.001), batches=False)
    assert found.batch is None
    assert found.single.ratio.value == pytest.approx(2)
    assert {len(pixels) for _, pixels in clock.calls} == {IMAGES[0].size}


def test_a_machine_that_slows_down_doesnt_show():
    clock = HandClock(slowing=0.05)
    found = compare(clock, clock.model("a", 0.0004), clock.model("b", 0.0002), seconds=1000)
    assert found.single.rounds == MOST_ROUNDS
    assert (found.single.ratio.low, found.single.ratio.high) == pytest.approx((2, 2))


def test_both_answer_the_same_images_by_turns():
    clock = HandClock()
    compare(clock, clock.model("a", 0.01), clock.model("b", 0.01), seconds=5)
    names = "".join(name for name, _ in clock.calls)
    assert names[: 4 * 8] == "abba" * 8
    for start in range(0, 32, 4):
        assert len({pixels for _, pixels in clock.calls[start : start + 4]}) == 1
    seen = {pixels for _, pixels in clock.calls if len(pixels) == IMAGES[0].nbytes}
    assert len(seen) == len(IMAGES)  # all of them, not always the first
    assert {len(pixels) for _, pixels in clock.calls} == {IMAGES[0].nbytes, BATCH * IMAGES[0].nbytes}


@pytest.mark.parametrize("image", [0.001, 0.02, 0.3, 2.0, 30.0])
def test_the_time_is_bounded(image):
    """By ten seconds, or by the first call of each where even those take longer."""
    clock = HandClock()
    found = compare(clock, clock.model("a", 0, image), clock.model("b", 0, image / 2))
    assert clock.now == pytest.approx(found.seconds)
    assert found.seconds <= max(10, 1.5 * image) + 1e-9


def test_a_slow_pair_gets_all_the_time_for_single_images():
    clock = HandClock()
    found = compare(clock, clock.model("a", 0, 0.3), clock.model("b", 0, 0.3))
    assert found.single.rounds == FEWEST_ROUNDS
    assert found.single.ratio.value == pytest.approx(1)
    assert (found.batch.ratio, found.batch.rounds, found.batch.challenger_ms) == (None, 0, None)


def test_a_champion_that_is_far_slower_doesnt_break_the_bound():
    clock = HandClock()
    found = compare(clock, clock.model("a", 0, 0.001), clock.model("b", 0, 0.8))
    assert found.seconds <= 10
    assert found.batch.ratio is None


def test_too_few_rounds_are_no_evidence():
    clock = HandClock()
    found = compare(clock, clock.model("a", 1), clock.model("b", 1))
    assert found.single.ratio is None
    assert from_json(Cost, to_json(found)) == found


@pytest.mark.parametrize("stopped", [0.0, float("nan"), float("inf")])
def test_a_clock_that_doesnt_measure_is_no_evidence(stopped):
    clock = HandClock()
    found = compare(clock, clock.model("a", 0.01), clock.model("b", 0.01), timer=lambda: stopped)
    assert found.single.ratio is None
    assert found.batch.ratio is None
    assert from_json(Cost, to_json(found)) == found


def test_nothing_to_compare_is_an_error():
    clock = HandClock()
    with pytest.raises(CostError, match="No images"):
        compare_cost(clock.model("a", 1), clock.model("b", 1), IMAGES[:0])
    with pytest.raises(CostError, match="4 and 0 bytes"):
        compare(clock, clock.model("a", 1), clock.model("b", 1, weights=0))


def test_the_median_has_the_ranks_of_the_tables():
    # ranks of the 95 % interval of the median, e.g. Conover 1999, table A3
    for count, low, high in ((6, 1, 6), (8, 1, 8), (9, 2, 8), (10, 2, 9), (20, 6, 15), (50, 18, 33), (100, 40, 61)):
        ratios = [float(rank) for rank in range(1, count + 1)]
        found = median_ratio(ratios[::-1])
        assert (found.value, found.low, found.high) == ((count + 1) / 2, low, high)


@pytest.mark.parametrize("ratios", [[], [1.0] * 5, [1.0] * 9 + [float("nan")], [1.0] * 9 + [float("inf")], [0.0] * 9])
def test_without_enough_ratios_there_is_no_median(ratios):
    assert median_ratio(ratios) is None


def classifier(name: str, size: int = 32) -> Classifier:
    torch.manual_seed(0)
    network = create(name, 10, size)
    layout = memory_format(network)
    model = TrainedModel(
        name, Path(), "ds-1", "task-1", name, tuple("abcdefghij"),
        Preprocessing(size, "bicubic", (0.5,) * 3, (0.2,) * 3), 1, 0, 1, "cpu", 1, 1, 0.9, "ab" * 32, 1.0, 1.0,
    )  # fmt: skip
    return Classifier(model, network.to(memory_format=layout).eval().requires_grad_(False), layout)


def test_real_nets_are_told_apart_and_threads_restored():
    small, large = classifier("airbench_small"), classifier("airbench")
    torch.set_num_threads(2)
    found = compare_cost(large, small, IMAGES, **ENOUGH)
    assert torch.get_num_threads() == 2
    assert found.batch.ratio.low > 1.3
    assert found.bytes_ratio > 3
    assert compare_cost(small, large, IMAGES, **ENOUGH).batch.ratio.high < 0.8


def test_a_model_costs_as_much_as_itself():
    one, other = classifier("airbench_small"), classifier("airbench_small")
    found = compare_cost(one, other, IMAGES, **ENOUGH)
    assert 0.7 < found.single.ratio.value < 1.4
    assert 0.7 < found.batch.ratio.value < 1.4
    assert found.bytes_ratio == 1


def test_a_model_of_another_size_gets_the_same_images_resized():
    found = compare_cost(classifier("airbench_small", 64), classifier("airbench_small"), IMAGES, **ENOUGH)
    assert found.batch.ratio.low > 1.3


def test_threads_are_restored_after_an_error():
    def fail(_):
        raise RuntimeError("broken")

    clock = HandClock()
    broken = clock.model("a", 1)
    broken.classify = fail
    torch.set_num_threads(2)
    with pytest.raises(RuntimeError, match="broken"):
        compare(clock, broken, clock.model("b", 1))
    assert torch.get_num_threads() == 2

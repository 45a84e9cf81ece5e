"""Whole evidence: its parts come from the same images, and its truth is the world's."""

import numpy as np
import pytest

from benchmarks.gate_simulation import LEVEL, generator
from benchmarks.gate_worlds import CLASSES, IMAGES, World, draw_alone, draw_evidence, draw_measured
from flywheel.evaluation.gates import judge
from flywheel.records import Verdict


def test_all_parts_count_the_same_images():
    evidence = draw_evidence(World(gain=(0.02,) * CLASSES), (), generator("parts"))
    whole = evidence.champion.counts
    assert whole.images == evidence.challenger.images == IMAGES
    assert evidence.anchor == evidence.champion
    for kind, number in (("class", CLASSES), ("brightness", 3), ("contrast", 3), ("sharpness", 3)):
        parts = [part.counts for part in evidence.slices if part.name.startswith(kind)]
        assert len(parts) == number
        for count in ("both", "only_challenger", "only_other", "neither"):
            assert sum(getattr(part, count) for part in parts) == getattr(whole, count)
        assert max(part.images for part in parts) - min(part.images for part in parts) <= 20
    right = whole.both + whole.only_challenger
    assert evidence.challenger.top1.value == pytest.approx(right / IMAGES)
    assert np.mean([each.recall.value for each in evidence.challenger.classes]) == pytest.approx(
        right / IMAGES, abs=0.002
    )


def test_the_truth_is_the_worlds():
    world = World(
        accuracy=(0.6, *(0.8,) * 9), gain=(-0.1, *(0.03,) * 9), ece=0.1, robustness=-0.04, latency=1.5, disagreement=0.3
    )
    random = generator("truth")
    drawn = [draw_evidence(world, (), random) for _ in range(200)]
    first, second = ([each.slices[place].counts.difference for each in drawn] for place in (0, 1))
    assert np.mean(first) == pytest.approx(-0.1, abs=0.006)
    assert np.mean(second) == pytest.approx(0.03, abs=0.006)
    assert np.mean([each.challenger.classes[0].recall.value for each in drawn]) == pytest.approx(0.6, abs=0.006)
    assert np.mean([each.ece.value for each in drawn]) == pytest.approx(0.1, abs=0.002)
    assert np.mean([each.robustness.difference.value for each in drawn]) == pytest.approx(-0.04, abs=0.004)
    assert np.mean([each.cost.latency_ratio.value for each in drawn]) == pytest.approx(1.5, abs=0.02)


def test_intervals_hold_the_truth_as_often_as_they_say():
    world, random = World(robustness=-0.02, disagreement=0.1), generator("intervals")
    drawn = [draw_evidence(world, (), random) for _ in range(400)]
    held = [each.robustness.difference.low <= -0.02 <= each.robustness.difference.high for each in drawn]
    assert 0.915 < np.mean(held) < 0.985
    assert 0.915 < np.mean([each.ece.low <= world.ece <= each.ece.high for each in drawn]) < 0.985


def test_measured_calibration_is_the_worlds_too():
    random = generator("calibration")
    for ece in (0.03, 0.15):
        found = [draw_measured(World(ece=ece), random).ece for _ in range(8)]
        assert np.mean([each.value for each in found]) == pytest.approx(ece, abs=0.006)
        assert sum(each.low <= ece <= each.high for each in found) >= 6


def test_alone_it_meets_the_floors_only():
    verdict = judge(draw_alone(World(), generator("alone")), LEVEL, {})
    assert verdict.verdict is Verdict.PASS
    assert len(verdict.rules) == 7


def test_one_that_is_better_in_everything_passes_and_the_equal_one_does_not():
    better = draw_evidence(World(gain=(0.04,) * CLASSES), (), generator("better"))
    assert judge(better, LEVEL, {}).verdict is Verdict.PASS
    equal = draw_evidence(World(), (), generator("equal"))
    assert judge(equal, LEVEL, {}).verdict is not Verdict.PASS

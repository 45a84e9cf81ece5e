"""Measuring under corruption, with weaknesses that were planted, and comparing what was measured."""

from dataclasses import replace

import numpy as np
import pytest

from flywheel.evaluation import robustness
from flywheel.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from flywheel.evaluation.robustness import (
    RobustnessError,
    corrupted_accuracy,
    measure_robustness,
    outcomes,
    robustness_difference,
    robustness_part,
)


def test_a_model_that_breaks_under_blur_alone_is_seen(pictures, brightness_model):
    images, labels, ids = pictures(300)
    blurred = {image.tobytes() for severity in SEVERITIES for image in corrupt(images, ids, "blur", severity)}
    champion = measure_robustness(brightness_model("model-1"), images, labels, ids)
    challenger = measure_robustness(brightness_model("model-2", weak_on=blurred), images, labels, ids)
    found = {name: robustness_difference(challenger, champion, name) for name in CORRUPTIONS}
    assert found["blur"].high < -0.9
    assert all(found[name].value == 0 for name in CORRUPTIONS if name != "blur")
    assert all(found[name].low < 0 < found[name].high for name in CORRUPTIONS if name != "blur")
    overall = robustness_difference(challenger, champion)
    assert overall.value == pytest.approx(found["blur"].value / 7)
    assert overall.high < 0
    assert corrupted_accuracy(challenger, "blur").high < 0.1 < 0.9 < corrupted_accuracy(champion, "blur").low


def test_the_counts_are_those_of_the_corrupted_images(pictures, brightness_model):
    images, labels, ids = pictures(90)
    model = brightness_model()
    found = measure_robustness(model, images, labels, ids)
    for condition, right in zip(found.conditions, outcomes(found), strict=True):
        copies = corrupt(images, ids, condition.corruption, condition.severity)
        expected = model.predict_packed(copies).logits.argmax(axis=1) == labels
        assert condition.right == expected.sum()
        assert np.array_equal(right, expected)


def test_batches_memory_maps_and_order_dont_show(tmp_path, monkeypatch, pictures, brightness_model):
    images, labels, ids = pictures(100)
    found = measure_robustness(brightness_model(), images, labels, ids, clock=lambda: 0.0)
    np.save(tmp_path / "images.npy", images)
    monkeypatch.setattr(robustness, "IMAGES_AT_ONCE", 7)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert measure_robustness(brightness_model(), mapped, labels, np.array(ids), clock=lambda: 0.0) == found
    turned = measure_robustness(brightness_model(), images[::-1], labels[::-1], ids[::-1], clock=lambda: 0.0)
    assert turned == found


def test_the_part_is_the_sets_own():
    ids = [f"{number:064x}" for number in range(5000)]
    part = robustness_part(ids)
    chosen = [ids[row] for row in part]
    assert len(set(chosen)) == 1000
    assert chosen == sorted(chosen)
    backwards = robustness_part(ids[::-1])
    assert [ids[::-1][row] for row in backwards] == chosen
    assert {ids[row] for row in robustness_part(ids, 300)} < set(chosen)
    assert [chosen[row] for row in robustness_part(chosen)] == chosen  # a part of the part is the part
    counts = np.bincount(part % 10)  # ten classes in turn: a sample, so about a hundred of each
    assert counts.min() > 60
    assert counts.max() < 140


def test_no_more_than_the_part_is_measured(pictures, brightness_model):
    images, labels, ids = pictures(1200)
    assert measure_robustness(brightness_model(), images, labels, ids).images == 1000


def test_what_cant_be_measured_is_an_error(pictures, brightness_model):
    images, labels, ids = pictures(4)
    with pytest.raises(RobustnessError, match="no images"):
        measure_robustness(brightness_model(), images[:0], labels[:0], [])
    with pytest.raises(RobustnessError, match="gaussian noise 1 isn't finite"):
        measure_robustness(brightness_model(threshold=float("nan")), images, labels, ids)


def test_the_difference_by_hand(robustness_of):
    right = np.ones((21, 4), bool)
    worse = right.copy()
    worse[:, 0] = False  # one image of four is lost under all
    worse[:7, 1] = False  # and another under a third
    found = robustness_difference(robustness_of(worse, "model-2"), robustness_of(right))
    # Differences −1, −1/3, 0, 0, and −1 and 1 for the variance: mean −1/3, Σ(d − mean)² = 4/9 + 0 + 1/9 + 1/9, and
    # (−2/3)² + (4/3)²: together 26/9, over 4 + 1 and 4: √(26/180) = 0.38006, times 1.95996 is 0.7449.
    assert (found.value, found.low, found.high) == pytest.approx((-1 / 3, -1.0, -1 / 3 + 0.7449), abs=1e-4)
    swapped = robustness_difference(robustness_of(right), robustness_of(worse))
    assert (swapped.value, swapped.low, swapped.high) == pytest.approx((1 / 3, 1 / 3 - 0.7449, 1.0), abs=1e-4)


def test_models_that_never_differ_leave_a_doubt_that_shrinks_with_the_images(robustness_of):
    few, many = (robustness_of(np.ones((21, count), bool)) for count in (10, 1000))
    assert robustness_difference(few, few).low < -0.2
    assert -0.01 < robustness_difference(many, many).low < 0 < robustness_difference(many, many).high < 0.01


def test_the_interval_holds_the_truth_as_often_as_it_says(robustness_of):
    """Images are the units: their 21 copies are right or wrong together, and count as one."""
    rng, trials, images = np.random.default_rng(0), 300, 250
    held = naive = 0
    for _ in range(trials):
        hard = rng.normal(0, 1, images)  # common to both models, and to all copies
        first, second = (
            hard + rng.normal(0, 0.5, images) + rng.normal(0, 0.3, (21, images)) < bound for bound in (0.2, 0.0)
        )
        truth = 0.06836  # Φ(0.2 / s) − Φ(0), s = √(1 + 0.25 + 0.09)
        found = robustness_difference(robustness_of(first, "model-2"), robustness_of(second))
        held += found.low <= truth <= found.high
        difference = first.astype(float) - second
        half = 1.96 * difference.std() / np.sqrt(difference.size)
        naive += abs(difference.mean() - truth) <= half
    assert 0.92 <= held / trials <= 0.985
    assert naive / trials < 0.6  # what copies that count as images would say


def test_models_on_other_images_arent_compared(robustness_of):
    one = robustness_of(np.ones((21, 4), bool))
    for other in (replace(one, part_sha256="cd" * 32), robustness_of(np.ones((21, 5), bool))):
        with pytest.raises(RobustnessError, match="different images"):
            robustness_difference(one, other)
    with pytest.raises(ValueError, match="no such corruption"):
        robustness_difference(one, one, "snow")

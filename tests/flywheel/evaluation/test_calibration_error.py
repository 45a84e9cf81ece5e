"""The interval of the ECE on models whose true calibration is known, because it was planted."""

import numpy as np
import pytest

from flywheel.evaluation.calibration_error import ece_interval
from flywheel.evaluation.metrics import MetricsError, expected_calibration_error, reliability

CLASSES = 10


def answers(rng: np.random.Generator, count: int, gap: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits with confidences of .3 to 1, and labels that agree with probability confidence - gap."""
    confidence = rng.uniform(0.3, 0.999, count)
    logits = np.zeros((count, CLASSES))
    logits[:, 0] = np.log(confidence) - np.log((1 - confidence) / (CLASSES - 1))
    right = rng.random(count) < confidence - gap
    return logits, np.where(right, 0, 1)


def plug_in(logits: np.ndarray, labels: np.ndarray) -> float:
    return expected_calibration_error(reliability(logits, labels))


@pytest.mark.parametrize(("gap", "count"), [(0.0, 1000), (0.1, 1000), (0.03, 8000)])
def test_the_interval_holds_the_truth_as_often_as_it_says(gap, count):
    """`gap` is in every bin, so it is the true ECE. 60 trials: fewer than 51 held has a chance of 0.1 % at 95 %."""
    rng = np.random.default_rng(0)
    found = [ece_interval(*answers(rng, count, gap)) for _ in range(60)]
    assert sum(interval.low <= gap <= interval.high for interval in found) >= 51


def test_a_calibrated_model_has_an_ece_above_zero_and_an_interval_that_holds_zero():
    logits, labels = answers(np.random.default_rng(1), 1000)
    found = ece_interval(logits, labels)
    assert plug_in(logits, labels) > 0.015
    assert found.low == 0
    assert found.value < plug_in(logits, labels)


def test_a_miscalibrated_model_is_told_apart_with_enough_images():
    found = ece_interval(*answers(np.random.default_rng(2), 8000, 0.05))
    assert 0.03 < found.low < 0.05 < found.high < 0.07


def test_more_images_leave_less_doubt():
    rng = np.random.default_rng(3)
    found = [ece_interval(*answers(rng, count, 0.1)) for count in (200, 2000, 20000)]
    widths = [interval.high - interval.low for interval in found]
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


@pytest.mark.parametrize("count", [1, 2, 7, 50])
@pytest.mark.parametrize("gap", [-0.3, 0.0, 0.3])
def test_few_images_give_a_wide_interval_in_order(count, gap):
    for seed in range(5):
        found = ece_interval(*answers(np.random.default_rng(seed), count, gap))
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.high > 0.1


def test_always_sure_and_right_is_no_proof():
    logits = np.zeros((300, CLASSES))
    logits[:, 0] = 50
    few = ece_interval(logits, np.zeros(300, int))
    assert (few.value, few.low) == (0, 0)
    assert few.high > 3 / 300 / 2  # 3 / n is what no mistake in n leaves open
    wrong = ece_interval(logits, np.ones(300, int))
    assert wrong.low > 0.9
    assert wrong.high == 1


def test_the_same_answers_give_the_same_interval_in_any_order():
    logits, labels = answers(np.random.default_rng(4), 500, 0.02)
    found = ece_interval(logits, labels)
    assert ece_interval(logits, labels) == found
    turned = ece_interval(logits[::-1], labels[::-1])
    assert (turned.value, turned.low, turned.high) == pytest.approx((found.value, found.low, found.high), abs=1e-9)


def test_more_confidence_asks_for_a_wider_interval():
    logits, labels = answers(np.random.default_rng(5), 2000, 0.1)
    narrow, wide = (ece_interval(logits, labels, confidence) for confidence in (0.9, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_nothing_to_measure_is_an_error():
    with pytest.raises(MetricsError, match="No images"):
        ece_interval(np.zeros((0, 3)), np.zeros(0, int))
    with pytest.raises(MetricsError, match="NaN"):
        ece_interval(np.full((2, 3), np.nan), np.zeros(2, int))

"""Four images of three classes, all numbers by hand.

Softmax rows: log p are used as logits, so that a row's softmax is the row of p itself.
"""

from math import log

import numpy as np
import pytest

from flywheel.evaluation.metrics import (
    MetricsError,
    confident_mistakes,
    confusion_matrix,
    expected_calibration_error,
    log_softmax,
    measure,
    negative_log_likelihood,
    reliability,
    top1,
)

SHARES = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.3, 0.6, 0.1]])
LOGITS = np.log(SHARES).astype(np.float32)
LABELS = np.array([0, 1, 1, 0])  # predicted: 0, 0, 1, 1
CLASSES = ("ant", "bee", "cat")


def test_top1_counts_the_answers_that_are_right():
    assert top1(LOGITS, LABELS).value == 0.5


def test_the_confusion_matrix_is_true_by_predicted():
    assert confusion_matrix(LOGITS, LABELS).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_nll_is_the_mean_log_share_of_the_true_class():
    expected = -(log(0.7) + log(0.3) + log(0.8) + log(0.3)) / 4
    assert negative_log_likelihood(LOGITS, LABELS) == pytest.approx(expected, rel=1e-6)


def test_nll_is_finite_where_a_naive_softmax_overflows():
    logits = np.array([[1000.0, 0.0], [0.0, 1000.0]], dtype=np.float32)
    assert negative_log_likelihood(logits, np.array([0, 0])) == pytest.approx(500.0)


def test_log_softmax_ignores_a_constant_shift():
    assert log_softmax(LOGITS + 50) == pytest.approx(log_softmax(LOGITS), abs=1e-5)


def test_ece_weighs_each_bins_gap_by_its_images():
    # 15 bins: .7 and .8 lie in (.667, .733] and (.733, .8], .5 in (.467, .533], .6 in (.533, .6]
    expected = (abs(1 - 0.7) + abs(0 - 0.5) + abs(1 - 0.8) + abs(0 - 0.6)) / 4
    assert expected_calibration_error(reliability(LOGITS, LABELS)) == pytest.approx(expected, abs=1e-6)


def test_two_bins_share_their_images():
    low, high = reliability(np.log(np.array([[0.5, 0.5], [0.9, 0.1], [0.3, 0.7]])), np.array([0, 0, 0]), bins=2)
    assert (low.images, high.images) == (1, 2)  # .5 belongs to (0, .5]
    assert high.confidence == pytest.approx(0.8)
    assert high.accuracy == 0.5


def test_a_perfectly_confident_and_right_model_has_no_calibration_error():
    logits = np.array([[900.0, 0.0]], dtype=np.float32)
    assert expected_calibration_error(reliability(logits, np.array([0]))) == 0.0


def test_mistakes_come_most_confident_first_and_never_include_a_right_answer():
    assert confident_mistakes(LOGITS, LABELS, 9).tolist() == [3, 1]
    assert confident_mistakes(LOGITS, LABELS, 1).tolist() == [3]
    assert confident_mistakes(LOGITS, LOGITS.argmax(axis=1), 9).tolist() == []


def test_measure_gives_every_class_its_recall_and_precision():
    measured = measure(LOGITS, LABELS, CLASSES)
    ant, bee, _ = measured.classes
    assert (ant.images, ant.recall.value, ant.precision) == (2, 0.5, 0.5)
    assert (bee.label, bee.precision) == ("bee", 0.5)
    assert measured.majority_rate == 0.5
    assert measured.images == 4


def test_a_class_without_images_is_known_between_zero_and_one():
    cat = measure(LOGITS, LABELS, CLASSES).classes[2]
    assert (cat.images, cat.recall.low, cat.recall.high, cat.precision) == (0, 0.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, dtype=int), "empty"),
        (np.full((2, 3), np.nan), np.array([0, 1]), "2 of 2 images have logits that are NaN"),
        (np.array([[0.0, np.inf, 0.0]]), np.array([0]), "1 of 1"),
        (np.zeros((2, 3)), np.array([0, 3]), r"Labels are integers 0\.\.2"),
        (np.zeros((2, 3)), np.array([0, -1]), "Labels are integers"),
        (np.zeros((2, 3)), np.array([0.0, 1.0]), "Labels are integers"),
        (np.zeros((2, 3)), np.array([0]), "expected"),
        (np.zeros((2, 4)), np.array([0, 1]), "3 classes expected, 4 found"),
    ],
)
def test_what_can_not_be_measured_is_named(logits, labels, message):
    with pytest.raises(MetricsError, match=message):
        measure(logits, labels, CLASSES)

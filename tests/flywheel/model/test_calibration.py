"""A temperature fits confidence to how often the answers are right, and never changes an answer."""

import numpy as np
import pytest
from scipy.special import log_softmax

from flywheel.model.calibration import fit_temperature


def drawn(temperature: float, images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose true temperature is known: the labels are drawn from softmax(logits / temperature)."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 4, (images, 5)).astype(np.float32)
    probabilities = np.exp(log_softmax(logits / temperature, axis=1))
    labels = (probabilities.cumsum(1) < generator.random((images, 1))).sum(1)
    return logits, np.minimum(labels, 4).astype(np.int64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_true_temperature_is_found(temperature: float) -> None:
    logits, labels = drawn(temperature, 5000)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.06)


def test_no_image_leaves_the_logits_alone() -> None:
    assert fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.int64)) == 1.0


def test_a_few_right_answers_do_not_make_a_model_certain() -> None:
    logits = np.eye(3, dtype=np.float32)
    few = fit_temperature(logits, np.arange(3))
    many = fit_temperature(np.tile(logits, (1000, 1)), np.tile(np.arange(3), 1000))
    assert 0.5 < few < 1.0
    assert many < 0.2


def test_the_same_logits_give_the_same_temperature_in_any_order() -> None:
    logits, labels = drawn(1.5, 400)
    assert fit_temperature(logits[::-1], labels[::-1]) == fit_temperature(logits, labels)

"""Counted answers: exact where a model is nearly always sure, and its reference small."""

import numpy as np
import pytest
from scipy.stats import beta, binom

from flywheel.data.measurements import STATISTICS
from flywheel.monitoring.counts import events, fit_counts, p_of_counts
from flywheel.monitoring.drift import DriftReference, fit_drift_reference, measure_drift
from flywheel.monitoring.sample import Sample

CLASSES, ERROR = 10, 0.005


def sure(count: int, seed: int, *, doubtful: float = 0.01, shares: np.ndarray | None = None) -> Sample:
    """A model's answers of which all but a few are beyond doubt."""
    random = np.random.default_rng(seed)
    labels = random.choice(CLASSES, count, p=shares)
    logits = random.normal(size=(count, CLASSES))
    logits[np.arange(count), labels] += np.where(random.random(count) < doubtful, 1.0, 14.0)
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return Sample(
        (exponentials / exponentials.sum(1, keepdims=True)).astype(np.float32),
        random.normal(size=(count, 8)).astype(np.float32),
        (0.5 + 0.1 * random.normal(size=(count, len(STATISTICS)))).astype(np.float32),
    )


def test_the_bounds_are_those_of_the_tables():
    probabilities = np.repeat(np.eye(2, dtype=np.float32), [30, 70], axis=0)
    reference = fit_counts(probabilities)
    level = ERROR / (2 * 5)
    p = p_of_counts(reference, np.array([[60, 40, 100, 100, 100]]), 100, ERROR)
    assert p[0] == pytest.approx(10 * binom.sf(59, 100, beta.ppf(1 - level, 31, 70)))


@pytest.mark.parametrize(("images", "window"), [(60, 30), (144, 100), (144, 400)])
def test_where_nothing_moves_p_is_small_no_more_often_than_it_says(images, window):
    world, found = sure(40_000, 1), []
    for seed in range(100):
        random = np.random.default_rng([seed, images])
        reference = fit_counts(world.probabilities[random.choice(len(world), images, replace=False)])
        happened = events(reference, world.probabilities)
        counts = happened[random.integers(0, len(world), (50, window))].sum(1)
        found.append(p_of_counts(reference, counts, window, ERROR))
    p = np.concatenate(found)
    for level in (0.5, 0.1, 0.01, 0.001):
        assert (p <= level).mean() <= level


def test_a_model_that_is_nearly_always_sure_is_watched():
    reference = fit_drift_reference(sure(144, 1))
    assert reference.prediction.dimensions == 0
    quiet = measure_drift(reference, sure(200, 2))
    assert quiet.prediction.p > 0.05
    assert quiet.prediction.effect_low == 0
    doubts = measure_drift(reference, sure(200, 3, doubtful=0.4))
    assert doubts.prediction.p < 1e-6
    assert 0 < doubts.prediction.effect_low < doubts.prediction.effect < doubts.prediction.effect_high
    shares = np.full(CLASSES, 0.5 / 9)
    shares[3] = 0.5
    assert measure_drift(reference, sure(200, 4, shares=shares)).prediction.p < 1e-4


def test_counts_are_the_same_after_they_were_kept():
    reference, window = fit_drift_reference(sure(144, 1)), sure(80, 2)
    again = DriftReference.from_arrays(reference.to_arrays())
    assert measure_drift(again, window) == measure_drift(reference, window)


def test_answers_without_any_doubt_are_no_shift():
    """All ties: no bound tells images of the reference from each other, and none calls a window another one."""
    probabilities = np.eye(CLASSES, dtype=np.float32)[np.arange(100) % CLASSES]
    reference = fit_counts(probabilities)
    assert p_of_counts(reference, events(reference, probabilities).sum(0)[None], 100, ERROR)[0] == 1

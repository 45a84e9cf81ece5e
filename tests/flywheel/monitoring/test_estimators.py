"""What each estimator says of a window, by hand-computed numbers."""

import numpy as np
import pytest

from flywheel.monitoring.drift import fit_drift_reference
from flywheel.monitoring.estimators import FEATURES, Answered, atc, doc, entropy, features, ks, yardstick
from flywheel.monitoring.sample import Sample
from flywheel.records import Interval
from tests.flywheel.monitoring.worlds import answered, seen


@pytest.fixture(scope="module")
def reference():
    sample, labels = seen(1_000, 0)
    whole = Interval(value=0.9, low=0.88, high=0.92)
    return yardstick(Answered(sample, labels, fit_drift_reference(sample)), whole, 2_000)


def sure(probability: float, count: int) -> Sample:
    """So many images, each of the first class with this probability, and the rest evenly among three others."""
    rest = (1 - probability) / 3
    sample, _ = seen(count, 1)
    row = np.array([[probability, rest, rest, rest]], np.float32)
    return Sample(np.repeat(row, count, 0), sample.embeddings, sample.statistics)


def test_entropy_is_in_nats_and_none_where_all_is_sure():
    found = entropy(np.array([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]]))
    assert found == pytest.approx([np.log(4), 0])


def test_kolmogorov_and_smirnovs_distance_is_that_of_the_steps():
    assert ks(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.25, 0.35])) == pytest.approx(0.5)
    assert ks(np.array([0.1, 0.2]), np.array([0.2, 0.1])) == 0
    assert ks(np.array([0.1, 0.2]), np.array([0.9])) == 1


def test_the_difference_of_confidences_is_added_to_the_references_accuracy(reference):
    window = sure(reference.confidence - 0.2, 50)
    assert doc(reference, window) == pytest.approx(0.7, abs=1e-6)
    assert doc(reference, sure(1.0, 50)) <= 1


def test_atc_counts_what_is_as_sure_as_the_share_that_is_right(reference):
    """Beside the accuracy of the whole reference, since it may be another than that of the part that was compared."""
    assert atc(reference, sure(0.25, 50)) == 0
    assert atc(reference, sure(1.0, 50)) == pytest.approx(0.9 + 1 - reference.own_accuracy)
    own, _ = seen(1_000, 0)
    assert atc(reference, own) == pytest.approx(0.9, abs=0.002)


def test_what_has_not_moved_has_features_near_nothing_at_any_size(reference):
    for count, most in ((50, 0.2), (2_000, 0.06)):
        found = np.mean([features(reference, seen(count, 10 + seed)[0]) for seed in range(10)], axis=0)
        assert (np.abs(found) < most).all(), dict(zip(FEATURES, found, strict=True))
    assert (
        features(reference, answered(seen(2_000, 5)[0].embeddings + 1.0, seen(2_000, 5)[0].statistics))[1:] > 0.06
    ).all()

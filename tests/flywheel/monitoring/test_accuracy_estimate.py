"""Accuracy without labels, and how sure that is, in a made-up world whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from flywheel.monitoring.accuracy_estimate import (
    UNCHANGED,
    Tried,
    accuracy_of_labels,
    estimate,
    fit_regressor,
    of_value,
    spread,
)
from flywheel.monitoring.baseline import Baseline, assemble
from flywheel.monitoring.sample import Sample
from tests.flywheel.monitoring.worlds import EMBEDDING, answered, seen

FAMILIES = {"fog": 0, "blur": 1, "noise": 2, "rain": 3}


def pushed(sample: Sample, number: int, far: float) -> Sample:
    direction = np.random.default_rng(100 + number).normal(size=EMBEDDING)
    return answered(sample.embeddings + far * direction / np.linalg.norm(direction), sample.statistics)


def baseline_of(sample: Sample, labels: np.ndarray, rows: np.ndarray) -> Baseline:
    tried = sample.take(rows)
    conditions = {f"{name} {far}": pushed(tried, axis, far) for name, axis in FAMILIES.items() for far in (1, 2, 3, 4)}
    return assemble(sample, labels, rows, conditions, {})


@pytest.fixture(scope="module")
def baseline():
    return baseline_of(*seen(2_000, 0), np.arange(500))


def test_where_nothing_moved_nothing_is_lost_and_more_movement_never_costs_less(baseline):
    assert baseline.regressor.predict(baseline.regressor.unmoved[None]) == [0]
    assert (baseline.regressor.weights >= 0).all()


def test_a_linear_loss_is_learned():
    random = np.random.default_rng(0)
    rows = random.uniform(0, 0.5, (200, 4))
    lost = rows @ np.array([0.5, 0.2, 0.0, 0.1])
    tried = [Tried(f"family {n % 4}", row, each) for n, (row, each) in enumerate(zip(rows, lost, strict=True))]
    found = fit_regressor([*tried, Tried(UNCHANGED, np.zeros(4), 0.0)])
    assert found.weights == pytest.approx([0.5, 0.2, 0, 0.1], abs=0.01)
    assert found.width < 0.05


def test_one_family_tells_nothing_of_another():
    with pytest.raises(ValueError, match="Two families"):
        fit_regressor([Tried("fog", np.zeros(4), 0.0)])


def test_the_luck_of_the_images_that_were_corrupted_is_not_learned():
    """Of the tried images 8 points fewer are right than of the others: what corruption costs is the same."""
    sample, labels = seen(2_000, 0)
    wrong = np.flatnonzero(sample.predicted != labels)
    right = np.flatnonzero(sample.predicted == labels)
    usual = len(wrong) / len(labels)
    many = round(500 * (usual + 0.06))
    baseline = baseline_of(sample, labels, np.sort(np.concatenate([wrong[:many], right[: 500 - many]])))
    clean, truth = seen(5_000, 9)
    found = estimate(baseline.regressor, baseline.yardstick, clean)
    assert found.value == pytest.approx((clean.predicted == truth).mean(), abs=0.025)


@pytest.mark.parametrize("size", [100, 1_000])
def test_the_interval_covers_families_that_were_never_seen(baseline, size):
    covered = []
    for axis in range(10, 18):
        for far in (0.0, 1.5, 3.0):
            sample, labels = seen(size, 1_000 * axis + int(10 * far))
            window = pushed(sample, axis, far)
            found = estimate(baseline.regressor, baseline.yardstick, window)
            covered.append(found.low <= (window.predicted == labels).mean() <= found.high)
    assert np.mean(covered) >= 0.9


def test_more_images_make_it_surer_and_a_small_reference_less_so(baseline):
    def width(count: int, images: int = baseline.yardstick.images) -> float:
        window = pushed(seen(3_200, 3)[0], 0, 2).take(slice(0, 3_200, 3_200 // count))
        found = estimate(baseline.regressor, replace(baseline.yardstick, images=images), window)
        return (found.high - found.low) / (found.lost + 0.05)

    assert width(50) > width(400) > width(3_200)
    assert width(3_200, images=50) > width(3_200)


def test_the_loss_is_the_estimate_seen_from_the_reference(baseline):
    found = estimate(baseline.regressor, baseline.yardstick, pushed(seen(400, 3)[0], 0, 3))
    assert found.reference == baseline.accuracy.value
    assert (found.lost, found.lost_low, found.lost_high) == pytest.approx(
        (found.reference - found.value, found.reference - found.high, found.reference - found.low)
    )
    assert set(found.estimators) == {"regressor", "ATC", "DoC"}


def test_a_larger_loss_is_told_less_surely():
    assert spread(0.03, np.array([-0.1, 0.0, 0.3])) == pytest.approx([0.03, 0.03, 0.33])


@pytest.mark.parametrize(("grows", "smallest"), [(True, 0.03), (False, 0.5)])
def test_how_much_less_surely_is_told_by_the_models_own_errors(grows, smallest):
    """Errors that grow with the loss, or are the same whatever it is."""
    random = np.random.default_rng(0)
    rows = np.zeros((600, 4))
    rows[:, 0] = random.uniform(0, 0.6, 600)
    errors = random.uniform(-1, 1, 600) * (0.3 * (0.03 + rows[:, 0]) if grows else 0.1)
    tried = [
        Tried(f"family {n % 3}", row, row[0] + error) for n, (row, error) in enumerate(zip(rows, errors, strict=True))
    ]
    assert fit_regressor([*tried, Tried(UNCHANGED, np.zeros(4), 0.0)]).smallest_spread == smallest


def test_anothers_value_comes_with_its_own_error(baseline):
    found = estimate(baseline.regressor, baseline.yardstick, seen(400, 3)[0])
    other = of_value(0.5, 0.02, found, 400, "class shares")
    half = 1.6449 * np.sqrt(0.25 / (400 + 1.6449**2) + 0.02**2)
    assert (other.low, other.value, other.high) == pytest.approx((0.5 - half, 0.5, 0.5 + half), abs=1e-4)
    assert of_value(1.0, 0.0, found, 100, "class shares").low == pytest.approx(100 / (100 + 1.6449**2), abs=1e-4)
    assert other.estimators["class shares"] == 0.5


def test_labels_tell_the_true_accuracy_with_wilsons_interval():
    found = accuracy_of_labels(np.array([True] * 8 + [False] * 2))
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert accuracy_of_labels(np.zeros(0, bool)) is None

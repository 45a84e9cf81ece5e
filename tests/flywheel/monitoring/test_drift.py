"""The test of a window against a reference: valid where nothing moved, and seeing what did."""

import numpy as np
import pytest

from flywheel.monitoring.alarm import e_value
from flywheel.monitoring.drift import (
    DriftError,
    DriftReference,
    fit_drift_reference,
    input_features,
    measure_drift,
    p_values,
    prediction_features,
    t_squared,
)
from flywheel.monitoring.sample import Sample
from tests.flywheel.monitoring.worlds import seen


@pytest.fixture(scope="module")
def reference() -> DriftReference:
    return fit_drift_reference(seen(2_000, 0)[0])


@pytest.mark.parametrize("tails", [False, True], ids=["normal", "heavy tails"])
@pytest.mark.parametrize(("images", "window"), [(200, 100), (1_000, 50), (500, 500)])
def test_where_nothing_moves_the_evidence_does_not_grow(images, window, tails):
    """What the alarm needs: over many references with many windows each, the mean e-value is 1 at most."""
    looks, found = 100, []
    for seed in range(30):
        reference = fit_drift_reference(seen(images, seed, tails=tails)[0])
        rows, _ = seen(looks * window, 1_000 + seed, tails=tails)
        for channel, features in (
            (reference.input, input_features(rows)),
            (reference.prediction, prediction_features(rows)),
        ):
            means = features.reshape(looks, window, -1).mean(1)
            found.append(p_values(channel, t_squared(channel, means, window), window))
    p = np.concatenate(found)
    assert np.mean([e_value(each) for each in p]) <= 1
    assert (p <= 0.1).mean() <= 0.1


def test_a_shift_is_seen_and_its_size_told(reference):
    quiet, moved = measure_drift(reference, seen(500, 7)[0]), measure_drift(reference, seen(500, 8, shift=1.0)[0])
    assert quiet.input.p > 0.01
    assert quiet.input.effect_low == 0
    assert moved.input.p < 1e-6
    assert 0.5 < moved.input.effect_low < moved.input.effect < moved.input.effect_high < 2


def test_what_moved_of_the_image_statistics_is_named(reference):
    moved = measure_drift(reference, seen(500, 8, shift=1.0)[0])
    assert [each.name for each in moved.statistics if each.moved] == ["contrast"]
    contrast = moved.statistics[1]
    assert contrast.low < contrast.window - contrast.reference < contrast.high
    assert (contrast.low + contrast.high) / 2 == pytest.approx(0.09, abs=0.01)
    assert not any(each.moved for each in measure_drift(reference, seen(500, 9)[0]).statistics)


def test_other_shares_of_the_classes_move_the_predictions(reference):
    found = measure_drift(reference, seen(500, 8, shares=(0.55, 0.15, 0.15, 0.15))[0])
    assert found.prediction.p < 1e-6


def test_it_is_the_same_after_it_was_kept(reference):
    window = seen(300, 3)[0]
    assert measure_drift(DriftReference.from_arrays(reference.to_arrays()), window) == measure_drift(reference, window)


def test_constant_and_repeated_columns_are_left_out():
    sample, _ = seen(1_000, 1)
    twins = np.hstack([sample.embeddings[:, :8], sample.embeddings[:, :8]])
    statistics = sample.statistics.copy()
    statistics[:, 3] = 0.5
    flat = Sample(sample.probabilities, twins, statistics)
    reference = fit_drift_reference(flat)
    assert reference.input.dimensions == 5 + 8
    assert measure_drift(reference, flat.take(slice(200))).input.p > 0.01


@pytest.mark.parametrize("name", ["probabilities", "embeddings", "statistics"])
def test_numbers_that_are_none_are_refused(reference, name):
    sample, _ = seen(100, 1)
    broken = {part: getattr(sample, part).copy() for part in ("probabilities", "embeddings", "statistics")}
    broken[name][3, 0] = np.nan
    with pytest.raises(DriftError, match=f"{name} of 100 images hold numbers that are none"):
        measure_drift(reference, Sample(**broken))


def test_a_window_larger_than_the_reference_tells_no_more_than_the_reference_can():
    """Over many references, windows of ten times their size: nothing but the reference's own error is there."""
    found = []
    for seed in range(40):
        small = fit_drift_reference(seen(300, seed)[0])
        found.append(measure_drift(small, seen(3_000, 500 + seed)[0]))
    assert np.mean([each.input.p < 0.05 for each in found]) <= 0.05
    assert np.mean([each.prediction.p < 0.05 for each in found]) <= 0.05


def test_too_few_images_are_refused(reference):
    with pytest.raises(DriftError, match="50 images or more expected, one of 49"):
        fit_drift_reference(seen(49, 1)[0])
    with pytest.raises(DriftError, match="two images or more"):
        measure_drift(reference, seen(1, 1)[0])
    with pytest.raises(DriftError, match="one of 0 found"):
        measure_drift(reference, seen(10, 1)[0].take(slice(0)))


def test_the_largest_shift_has_a_p_and_an_effect(reference):
    """A camera that sends nothing but white: numbers far beyond what a distribution's tables hold."""
    window = seen(1_000, 4)[0]
    white = Sample(window.probabilities, window.embeddings + 1e4, np.ones_like(window.statistics))
    found = measure_drift(reference, white)
    assert found.input.p == 0
    assert 1e3 < found.input.effect_low <= found.input.effect <= found.input.effect_high < np.inf
    assert all(each.moved for each in found.statistics)

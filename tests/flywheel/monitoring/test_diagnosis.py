"""Cause and action by what is known of a made-up model: each rule, in a world where the truth is known."""

import numpy as np
import pytest

from flywheel.monitoring.accuracy_estimate import AccuracyEstimate, estimate, of_value
from flywheel.monitoring.baseline import assemble
from flywheel.monitoring.diagnosis import Action, Cause, diagnose, measure, oddest
from flywheel.monitoring.drift import measure_drift
from flywheel.monitoring.sample import Sample
from flywheel.policies import DiagnosisPolicy
from tests.flywheel.monitoring.worlds import EMBEDDING, answered, seen

NO_ESTIMATE = AccuracyEstimate(1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, {})
PUSHES = {"fog": 0, "blur": 1, "noise": 2}  # families and the axis that each pushes along


def changed(sample: Sample, push: np.ndarray) -> Sample:
    return answered(sample.embeddings + push, sample.statistics)


def axis(number: int) -> np.ndarray:
    """Away from where the classes lie, but for a part."""
    direction = np.random.default_rng(100 + number).normal(size=EMBEDDING)
    return direction / np.linalg.norm(direction)


@pytest.fixture(scope="module")
def baseline():
    sample, labels = seen(2_000, 0)
    rows = np.arange(0, 1_000, 2)
    tried = sample.take(rows)
    conditions = {
        f"{family} {severity}": changed(tried, severity * axis(number))
        for family, number in PUSHES.items()
        for severity in (1, 2, 3, 4, 5)
    }
    mistakes = {
        "images are turned": changed(tried, 2.5 * axis(9)),
        "colours that nobody sees are swapped": changed(tried, 0.02 * axis(33)),
    }
    return assemble(sample, labels, rows, conditions, mistakes)


def diagnosed(baseline, window: Sample, *, alarm: bool = True, labels: tuple[int, int] = (0, 0)):
    drift = measure_drift(baseline.drift, window)
    found = estimate(baseline.regressor, baseline.yardstick, window)
    return diagnose(baseline, drift, found, window, alarm=alarm, policy=DiagnosisPolicy(), labels=labels)


def test_without_an_alarm_nothing_is_concluded(baseline):
    found = diagnosed(baseline, changed(seen(400, 5)[0], 4 * axis(0)), alarm=False)
    assert (found.cause, found.action, found.scores) == (Cause.NOTHING, Action.NOTHING, None)


def test_a_shift_that_costs_nothing_is_reported(baseline):
    sample, labels = seen(400, 5)
    window = changed(sample, 0.5 * axis(0))
    assert (window.predicted == labels).mean() > baseline.accuracy.value - 0.02
    found = diagnosed(baseline, window)
    assert (found.cause, found.action) == (Cause.HARMLESS, Action.REPORT)


def test_a_shift_that_costs_accuracy_asks_for_retraining(baseline):
    sample, labels = seen(400, 5)
    window = changed(sample, 5 * axis(0))
    true = (window.predicted == labels).mean()
    found = diagnosed(baseline, window)
    assert (found.cause, found.action) == (Cause.HARMFUL, Action.RETRAIN)
    assert found.estimate.low <= true <= found.estimate.high
    assert true < baseline.accuracy.value - 0.1


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_known_mistake_of_a_program_blocks_retraining_and_is_named(baseline, share):
    sample, _ = seen(400, 5)
    moved = round(share * len(sample))
    push = np.zeros((len(sample), EMBEDDING))
    push[:moved] = 2.5 * axis(9)
    found = diagnosed(baseline, changed(sample, push))
    assert (found.cause, found.action) == (Cause.BROKEN, Action.BLOCK)
    assert "images are turned" in found.reason
    assert found.scores.mistake_share == pytest.approx(share, abs=0.1)


def test_a_mistake_that_moves_next_to_nothing_is_never_what_happened(baseline):
    found = diagnosed(baseline, changed(seen(400, 5)[0], 4 * axis(33)))
    assert found.cause is not Cause.BROKEN


def test_where_few_dimensions_are_known_no_mistake_is_named_by_its_direction():
    """With a reference of 60 there are two: any shift lies near a known one."""
    sample, labels = seen(60, 0)
    rows = np.arange(30)
    tried = sample.take(rows)
    conditions = {f"{name} 2": changed(tried, 2 * axis(number)) for name, number in PUSHES.items()}
    small = assemble(
        sample, labels, rows, conditions, {f"mistake {n}": changed(tried, 3 * axis(n)) for n in range(9, 17)}
    )
    causes = [diagnosed(small, changed(seen(400, 5)[0], 3 * axis(n))).cause for n in range(20, 30)]
    assert Cause.BROKEN not in causes


def test_what_moved_further_than_anything_that_was_tried_is_not_called_harmless(baseline):
    """A model that stays sure tells nothing of what it never saw the like of."""
    sample, _ = seen(400, 5)
    direction = np.zeros((EMBEDDING,))
    direction[0] = 1.0
    far = Sample(sample.probabilities, sample.embeddings + 500 * direction.astype(np.float32), sample.statistics)
    found = diagnosed(baseline, far)
    assert min(found.estimate.estimators.values()) > baseline.accuracy.value - 0.03, "all estimates call it harmless"
    assert found.cause in (Cause.UNKNOWN, Cause.NEW_KIND)
    assert found.action is Action.ASK


def test_labels_of_images_drawn_at_random_end_what_nobody_could_tell(baseline):
    sample, _ = seen(800, 5)
    push = np.zeros((len(sample), EMBEDDING))
    push[::3] = 9 * axis(42)
    strange = changed(sample, push)
    assert diagnosed(baseline, strange).action is Action.ASK
    assert diagnosed(baseline, strange, labels=(9, 10)).action is Action.ASK, "ten tell nothing"
    bad = diagnosed(baseline, strange, labels=(70, 100))
    assert (bad.cause, bad.action) == (Cause.HARMFUL, Action.RETRAIN)
    assert "70 of 100 labelled images" in bad.reason
    good = diagnosed(baseline, strange, labels=(300, 300))
    assert (good.cause, good.action) == (Cause.HARMLESS, Action.REPORT)


def test_labels_do_not_make_a_broken_input_worth_learning_from(baseline):
    window = changed(seen(400, 5)[0], 2.5 * axis(9))
    assert diagnosed(baseline, window, labels=(10, 100)).action is Action.BLOCK


def test_images_that_show_nothing_block_retraining(baseline):
    sample, _ = seen(400, 5)
    statistics = sample.statistics.copy()
    statistics[:80, 1] = 0.0
    found = diagnosed(baseline, Sample(sample.probabilities, sample.embeddings, statistics))
    assert (found.cause, found.action) == (Cause.BROKEN, Action.BLOCK)
    assert "20% of the images show nothing" in found.reason


def test_other_shares_of_the_classes_are_called_so_with_the_accuracy_at_them(baseline):
    sample, labels = seen(800, 5, shares=(0.6, 0.3, 0.05, 0.05))
    found = diagnosed(baseline, sample)
    assert (found.cause, found.action) == (Cause.LABELS, Action.RECALIBRATE)
    assert found.scores.mixture.shares == pytest.approx((0.6, 0.3, 0.05, 0.05), abs=0.06)
    assert found.estimate.value == pytest.approx((sample.predicted == labels).mean(), abs=0.03)


@pytest.mark.parametrize("share", [0.1, 0.4, 1.0])
def test_a_new_kind_of_image_asks_for_labels(baseline, share):
    sample, _ = seen(800, 5)
    foreign = round(share * len(sample))
    push = np.zeros((len(sample), EMBEDDING))
    push[:foreign] = 9 * axis(42)
    found = diagnosed(baseline, changed(sample, push[np.random.default_rng(1).permutation(len(push))]))
    assert (found.cause, found.action) == (Cause.NEW_KIND, Action.ASK)
    assert found.scores.far == pytest.approx(share, abs=0.05)


def test_a_class_that_the_reference_has_no_image_of_takes_no_share(baseline):
    """Its mean would lie in the middle of all, where any window without a shift lies too."""
    sample, labels = seen(2_000, 0)
    wider = Sample(
        np.hstack([sample.probabilities, np.zeros((len(labels), 1), np.float32)]), sample.embeddings, sample.statistics
    )
    rows = np.arange(0, 1_000, 2)
    tried = wider.take(rows)
    small = assemble(wider, labels, rows, {f"{name} 1": tried for name in PUSHES}, {})
    mixture = measure(small, wider).mixture
    assert mixture.shares[-1] == 0
    assert mixture.accuracy == pytest.approx(small.accuracy.value, abs=0.01)


def test_the_accuracy_at_other_shares_is_told_as_surely_as_images_allow():
    covered = []
    for seed in range(6):
        sample, labels = seen(1_000, seed)
        rows = np.arange(200)
        tried = {f"{name} 1": changed(sample.take(rows), axis(number)) for name, number in PUSHES.items()}
        baseline = assemble(sample, labels, rows, tried, {})
        for size in (100, 1_600):
            for draw in range(6):
                window, truth = seen(size, 70 + draw, shares=(0.6, 0.3, 0.05, 0.05))
                mixture = measure(baseline, window).mixture
                found = of_value(mixture.accuracy, mixture.accuracy_error, NO_ESTIMATE, size, "class shares")
                covered.append(found.low <= (window.predicted == truth).mean() <= found.high)
    assert np.mean(covered) >= 0.85


def test_the_oddest_images_come_first(baseline):
    sample, _ = seen(100, 5)
    push = np.zeros((100, EMBEDDING))
    push[[3, 70]] = [[12.0] * EMBEDDING, [30.0] * EMBEDDING]
    assert oddest(baseline, changed(sample, push), 2) == [70, 3]

"""What the simulation of whole lives does at once is what monitoring does look by look."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import drift_lifetime
from benchmarks.drift_lifetime import Task, alarm_of, alarms_at, live, nearly_sure
from flywheel.model.reference import fit_projection
from flywheel.monitoring.drift import fit_drift_reference, measure_drift
from tests.flywheel.monitoring.test_counts import sure
from tests.flywheel.monitoring.worlds import seen


@pytest.mark.parametrize(("sample", "counted"), [(seen(1_200, 1)[0], False), (sure(1_200, 1), True)])
def test_p_values_are_those_of_a_look(sample, counted):
    task = Task(reference=150 if counted else 400, window=50, looks=4, seeds=range(1))
    drift_lifetime._take(sample)
    found, _ = live(drift_lifetime._rows[0], task, 0)
    random = np.random.default_rng([0, task.reference, task.window])
    order = random.permutation(len(sample))
    own, rest = order[: task.reference], order[task.reference :]
    projection = fit_projection(sample.embeddings[own])
    projected = replace(sample, embeddings=projection.apply(sample.embeddings))
    reference = fit_drift_reference(projected.take(own))
    assert (reference.prediction.dimensions == 0) is counted
    drawn = random.permutation(rest)
    for look in range(task.looks):
        drift = measure_drift(reference, projected.take(drawn[look * 50 : (look + 1) * 50]))
        assert found[:, look] == pytest.approx([drift.input.p, drift.prediction.p], abs=1e-4)


def test_alarms_of_many_lives_are_those_of_each():
    p = np.random.default_rng(1).random((6, 2, 300)) ** np.array([1, 1.2, 1.5, 2, 3, 6])[:, None, None]
    alarms = alarms_at(p)
    assert alarms.tolist() == [alarm_of(each) for each in p]
    assert alarms[0] == 0
    assert alarms[-1] > 0


def test_a_model_that_is_nearly_always_sure_has_few_doubts():
    confidence = np.linspace(0.5, 1, 1_000, dtype=np.float32)
    given = replace(seen(1_000, 1)[0], probabilities=np.stack([confidence, 1 - confidence], 1))
    sample = nearly_sure(given)
    assert len(sample) == 200 + 6  # 200 above .9, and 3 % of as many
    assert sample.probabilities[:200].max(1).min() > 0.998  # .9 with its logit tripled: .9³ / (.9³ + .1³)
    assert (sample.probabilities.max(1) < 0.998).sum() == 6

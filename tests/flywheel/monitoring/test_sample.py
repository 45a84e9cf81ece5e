import numpy as np
import pytest

from flywheel.data.measurements import STATISTICS
from flywheel.model.inference import softmax
from flywheel.model.reference import Reference, fit_projection
from flywheel.monitoring.sample import sample_of_log, sample_of_reference


@pytest.fixture
def reference():
    random = np.random.default_rng(5)
    embeddings = random.normal(size=(30, 8)).astype(np.float32)
    return Reference(
        logits=random.normal(size=(30, 3)).astype(np.float32),
        embeddings=embeddings,
        statistics=random.random((30, len(STATISTICS)), np.float32),
        statistic_names=STATISTICS,
        labels=random.integers(0, 3, 30),
        ids=np.arange(30).astype(np.str_),
        projection=fit_projection(embeddings),
        samples=np.zeros((8, 4, 4, 3), np.uint8),
    )


def test_the_reference_is_what_the_log_would_have_kept_of_it(reference):
    found = sample_of_reference(reference)
    kept = [
        [row.tobytes() for row in softmax(reference.logits)],
        [row.tobytes() for row in reference.projection.apply(reference.embeddings).astype(np.float16)],
        [row.tobytes() for row in reference.statistics],
    ]
    logged = sample_of_log(*kept, classes=3)
    for name in ("probabilities", "embeddings", "statistics"):
        assert np.array_equal(getattr(found, name), getattr(logged, name))
    assert np.array_equal(found.predicted, reference.logits.argmax(1))
    assert len(found.take(slice(10))) == 10


def test_rows_of_another_class_list_are_refused(reference):
    rows = [softmax(reference.logits)[0].tobytes()]
    with pytest.raises(ValueError, match="reshape"):
        sample_of_log(rows, [b"\0\0"], [bytes(4 * len(STATISTICS))], classes=4)


def test_no_rows_are_an_empty_sample():
    assert len(sample_of_log([], [], [], classes=3)) == 0

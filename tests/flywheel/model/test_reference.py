from pathlib import Path

import numpy as np
import pytest

from flywheel.model.folder import ModelError, list_files, write_manifest
from flywheel.model.reference import (
    Reference,
    fit_projection,
    read_projection,
    read_reference,
    read_samples,
    write_reference,
)
from flywheel.records import Preprocessing, TrainedModel


def test_the_projection_finds_the_widest_direction():
    along = np.array([-2, -1, 0, 1, 2], np.float32)[:, None] * np.array([3, -4], np.float32) / 5
    projection = fit_projection(along + np.array([10, 20], np.float32))
    assert projection.mean.tolist() == [10, 20]
    assert projection.components[0].tolist() == pytest.approx([-0.6, 0.8])  # its largest entry is positive
    assert projection.apply(along + projection.mean)[:, 0].tolist() == pytest.approx([2, 1, 0, -1, -2], abs=1e-5)


def test_components_are_orthonormal_and_at_most_64():
    embeddings = np.random.default_rng(0).normal(size=(300, 100)).astype(np.float32)
    components = fit_projection(embeddings).components
    assert components.shape == (64, 100)
    assert np.allclose(components @ components.T, np.eye(64), atol=1e-5)
    spread = fit_projection(embeddings).apply(embeddings).var(0)
    assert (np.diff(spread) <= 1e-4).all()


def test_an_empty_reference_side_has_a_projection_of_the_right_shape():
    projection = fit_projection(np.zeros((0, 5), np.float32))
    assert projection.apply(np.ones((2, 5), np.float32)).shape == (2, 5)


def test_what_was_written_is_read_and_vouched_for_by_the_manifest(tmp_path: Path):
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(4, 6)).astype(np.float32)
    reference = Reference(
        logits=rng.normal(size=(4, 2)).astype(np.float32),
        embeddings=embeddings,
        statistics=np.ones((4, 2), np.float32),
        statistic_names=("brightness", "contrast"),
        labels=np.array([0, 1, 0, 1]),
        ids=np.array([f"{row:064x}" for row in range(4)]),
        projection=fit_projection(embeddings),
        samples=rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8),
    )
    names = write_reference(tmp_path, reference)
    preprocessing = Preprocessing(8, "box", (0.5,) * 3, (0.5,) * 3)
    model = TrainedModel(
        *("model-1", tmp_path, "ds-1", "task-1", "airbench_small", ("a", "b"), preprocessing),
        *(10, 0, 1, "cpu", 1, 1, 0.5, "", 1.0, 2.0),
    )
    write_manifest(tmp_path, model, list_files(tmp_path, names), {})
    found = read_reference(tmp_path)
    samples, logits = read_samples(tmp_path)
    assert samples.tolist() == reference.samples.tolist()
    assert logits.tolist() == reference.logits[:2].tolist()
    assert read_projection(tmp_path).mean.tolist() == reference.projection.mean.tolist()
    assert found.statistic_names == ("brightness", "contrast")
    assert np.array_equal(found.ids, reference.ids)
    assert np.array_equal(found.projection.apply(embeddings), reference.projection.apply(embeddings))
    (tmp_path / "reference" / "labels.npy").write_bytes(b"")
    with pytest.raises(ModelError, match=r"labels\.npy: SHA-256"):
        read_reference(tmp_path)

"""`reference/` in a model's folder: what the model said about the reference side, which monitoring compares with.

The arrays stand row by row for the same images: logits, embeddings, the index's image statistics, labels and ids, and
the projection that reduces an embedding before it is compared.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.model.folder import check_file

FOLDER = "reference"
PROJECTED_DIMENSIONS = 64
SAMPLES = 8  # images that a loaded model is tried on before it may answer
FILES = (
    "logits",
    "embeddings",
    "statistics",
    "statistic_names",
    "labels",
    "ids",
    "projection_mean",
    "projection_components",
    "samples",
)


@dataclass(frozen=True)
class Projection:
    """Principal components of the reference embeddings, the widest first."""

    mean: NDArray[np.float32]  # [D]
    components: NDArray[np.float32]  # [K, D], K = min(64, D), rows of unit length

    def apply(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32[N, D] → float32[N, K]"""
        return np.asarray((embeddings - self.mean) @ self.components.T, np.float32)


@dataclass(frozen=True)
class Reference:
    """R images of the reference side, by the model that they belong to."""

    logits: NDArray[np.float32]  # [R, C]
    embeddings: NDArray[np.float32]  # [R, D]
    statistics: NDArray[np.float32]  # [R, k]
    statistic_names: tuple[str, ...]  # k
    labels: NDArray[np.int64]  # [R]
    ids: NDArray[np.str_]  # [R], image ids
    projection: Projection
    samples: NDArray[np.uint8]  # [min(8, R), S, S, 3]: the first images, packed


def fit_projection(embeddings: NDArray[np.float32]) -> Projection:
    """Principal components by the covariance's eigenvectors, each with its largest entry positive: one sign, always."""
    dimensions = embeddings.shape[1]
    kept = min(PROJECTED_DIMENSIONS, dimensions)
    if len(embeddings) == 0:
        return Projection(np.zeros(dimensions, np.float32), np.eye(kept, dimensions, dtype=np.float32))
    values: NDArray[np.float64] = embeddings.astype(np.float64)
    mean = values.mean(0)
    centred = values - mean
    _, vectors = np.linalg.eigh(centred.T @ centred / len(values))
    components = vectors.T[::-1][:kept]
    largest = np.abs(components).argmax(1)
    components = components * np.where(components[np.arange(kept), largest] < 0, -1, 1)[:, None]
    return Projection(mean.astype(np.float32), components.astype(np.float32))


def write_reference(folder: Path, reference: Reference) -> tuple[str, ...]:
    """Write the arrays under `folder/reference` and return their names for the manifest."""
    arrays = {
        "logits": reference.logits,
        "embeddings": reference.embeddings,
        "statistics": reference.statistics,
        "statistic_names": np.array(reference.statistic_names, np.str_),
        "labels": reference.labels,
        "ids": np.asarray(reference.ids, np.str_),
        "projection_mean": reference.projection.mean,
        "projection_components": reference.projection.components,
        "samples": reference.samples,
    }
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / FOLDER / f"{name}.npy", array, allow_pickle=False)
    return tuple(f"{FOLDER}/{name}.npy" for name in arrays)


def read_reference(folder: Path) -> Reference:
    """The reference of a model's folder, each file checked against the manifest. Raises ModelError."""
    arrays = {name: _read(folder, name) for name in FILES}
    return Reference(
        logits=arrays["logits"],
        embeddings=arrays["embeddings"],
        statistics=arrays["statistics"],
        statistic_names=tuple(map(str, arrays["statistic_names"])),
        labels=arrays["labels"],
        ids=arrays["ids"],
        projection=Projection(arrays["projection_mean"], arrays["projection_components"]),
        samples=arrays["samples"],
    )


def read_projection(folder: Path) -> Projection:
    """The projection alone. Raises ModelError."""
    return Projection(_read(folder, "projection_mean"), _read(folder, "projection_components"))


def read_samples(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Packed images and the logits that the model gave for them. Raises ModelError."""
    samples = _read(folder, "samples")
    return samples, _read(folder, "logits")[: len(samples)]


def _read(folder: Path, name: str) -> NDArray[Any]:
    return np.asarray(np.load(check_file(folder, f"{FOLDER}/{name}.npy"), allow_pickle=False))

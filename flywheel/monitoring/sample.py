"""Images as one model saw them, without their labels: a window of traffic, or the reference beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.data.measurements import STATISTICS
from flywheel.model.reference import Reference


@dataclass(frozen=True)
class Sample:
    """N images, row by row, in the order in which they came."""

    probabilities: NDArray[np.float32]  # [N, C], calibrated
    embeddings: NDArray[np.float32]  # [N, K], by the model's own projection, rounded as the prediction log keeps them
    statistics: NDArray[np.float32]  # [N, 7]: flywheel.data.measurements.STATISTICS

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The likeliest class, int64[N]."""
        found: NDArray[np.int64] = self.probabilities.argmax(1)
        return found

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> "Sample":
        return Sample(self.probabilities[rows], self.embeddings[rows], self.statistics[rows])


def sample_of_log(
    probabilities: Sequence[bytes], embeddings: Sequence[bytes], statistics: Sequence[bytes], classes: int
) -> Sample:
    """From the columns of the prediction log. Raises ValueError where a row is not of that many classes."""
    rows = len(probabilities)
    return Sample(
        np.frombuffer(b"".join(probabilities), np.float32).reshape(rows, classes),
        np.frombuffer(b"".join(embeddings), np.float16).reshape(rows, -1 if rows else 0).astype(np.float32),
        np.frombuffer(b"".join(statistics), np.float32).reshape(rows, len(STATISTICS)),
    )


def sample_of_reference(reference: Reference) -> Sample:
    """The reference side as the prediction log would have kept it."""
    from flywheel.model.inference import softmax  # and torch with it, which who only reads a look need not wait for

    return Sample(
        softmax(reference.logits),
        reference.projection.apply(reference.embeddings).astype(np.float16).astype(np.float32),
        reference.statistics,
    )

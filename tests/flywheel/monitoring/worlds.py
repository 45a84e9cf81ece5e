"""A model's view of a made-up world: classes are clouds, features come out of their position."""

import numpy as np

from flywheel.data.measurements import STATISTICS
from flywheel.monitoring.sample import Sample

CLASSES, EMBEDDING = 4, 16
CENTRES = np.random.default_rng(11).normal(size=(CLASSES, EMBEDDING)) * 1.2


def seen(count: int, seed: int, *, shift: float = 0.0, shares: tuple[float, ...] | None = None, tails: bool = False):
    """A sample and its labels. `shift` moves all embeddings and one statistic; `tails` makes them heavy."""
    random = np.random.default_rng(seed)
    labels = random.choice(CLASSES, count, p=shares)
    noise = random.standard_t(5, (count, EMBEDDING)) if tails else random.normal(size=(count, EMBEDDING))
    direction = np.random.default_rng(5).normal(size=EMBEDDING)
    embeddings = CENTRES[labels] + noise + shift * direction / np.linalg.norm(direction)
    statistics = np.clip(0.5 + 0.1 * random.normal(size=(count, len(STATISTICS))), 0.02, 1)
    statistics[:, 1] = np.clip(statistics[:, 1] + 0.1 * shift, 0.02, 1)
    return answered(embeddings, statistics), labels


def answered(embeddings: np.ndarray, statistics: np.ndarray) -> Sample:
    """As the best classifier of the unmoved world would."""
    logits = embeddings @ CENTRES.T - (CENTRES**2).sum(1) / 2
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return Sample(
        (exponentials / exponentials.sum(1, keepdims=True)).astype(np.float32),
        embeddings.astype(np.float16).astype(np.float32),
        statistics.astype(np.float32),
    )

"""Which images' labels would teach most: uncertain, unlike what is known, and unlike each other.

Each image is weighed by how little its answer says (the entropy of its softmax) and how far it lies from the reference;
of the heaviest, a set is chosen greedily so that each next one lies farthest from those chosen (k-center: Sener and
Savarese 2018), weighted as in BADGE's spirit (Ash et al. 2020) by its uncertainty.
"""

import numpy as np
from numpy.typing import NDArray

SHORTLIST = 5  # times as many as are wanted are looked at


def choose(
    probabilities: NDArray[np.float32],
    embeddings: NDArray[np.float32],
    reference: NDArray[np.float32],
    wanted: int,
) -> NDArray[np.int64]:
    """Places of at most `wanted` images, the most telling first. `reference` are embeddings of the same projection."""
    count = len(probabilities)
    if count == 0 or wanted <= 0:
        return np.zeros(0, np.int64)
    scale = np.maximum(reference.std(0), 1e-6)
    points = embeddings.astype(np.float64) / scale
    weight = (_ranks(_entropy(probabilities)) + _ranks(_distance(points, reference / scale))) / 2
    short = np.argsort(-weight, kind="stable")[: SHORTLIST * wanted]
    chosen, nearest = [0], np.full(len(short), np.inf)
    candidates = points[short]
    while len(chosen) < min(wanted, len(short)):
        nearest = np.minimum(nearest, np.linalg.norm(candidates - candidates[chosen[-1]], axis=1))
        worth = nearest * weight[short]
        worth[chosen] = -1.0
        chosen.append(int(worth.argmax()))
    return np.asarray(short[chosen], np.int64)


def _entropy(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    some = np.clip(probabilities.astype(np.float64), 1e-12, 1.0)
    return np.asarray(-(some * np.log(some)).sum(1))


def _distance(points: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """To the nearest of some reference images."""
    some = reference[np.linspace(0, len(reference) - 1, min(len(reference), 500)).astype(int)]
    squares = (points**2).sum(1)[:, None] + (some**2).sum(1) - 2 * points @ some.T
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)).min(1))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 1 / N to 1. Equal ones have one rank, and none has 0: it would count as little as one that is chosen."""
    return np.asarray((np.searchsorted(np.sort(values), values) + 1) / max(len(values), 1))

"""The queue asks for what is uncertain, odd, and not yet asked for in another image's place."""

import numpy as np

from flywheel.labels.queue import choose

REFERENCE = np.random.default_rng(1).normal(size=(300, 4)).astype(np.float32)


def certain(count: int, confidence: float) -> np.ndarray:
    found = np.full((count, 3), (1 - confidence) / 2, np.float32)
    found[:, 0] = confidence
    return found


def test_the_uncertain_and_odd_come_first():
    probabilities = np.concatenate([certain(50, 0.99), certain(5, 0.4)])
    embeddings = np.random.default_rng(0).normal(size=(55, 4)).astype(np.float32)
    embeddings[50:] += 8 * np.eye(5, 4, dtype=np.float32) - 4
    assert set(choose(probabilities, embeddings, REFERENCE, 5)) == set(range(50, 55))


def test_of_copies_one_is_asked_for():
    """Twenty of the same odd image, and four others that are as uncertain."""
    random = np.random.default_rng(0)
    embeddings = np.concatenate([np.full((20, 4), 9.0), random.normal(size=(4, 4)) * 6]).astype(np.float32)
    chosen = choose(certain(24, 0.4), embeddings, REFERENCE, 5)
    assert sum(place < 20 for place in chosen) == 1
    assert len(set(chosen.tolist())) == 5


def test_no_more_than_there_are_and_none_twice():
    assert sorted(choose(certain(3, 0.5), REFERENCE[:3], REFERENCE, 10).tolist()) == [0, 1, 2]
    assert choose(certain(3, 0.5), REFERENCE[:3], REFERENCE, 0).tolist() == []
    assert choose(certain(0, 0.5), REFERENCE[:0], REFERENCE, 4).tolist() == []
    assert sorted(choose(certain(6, 0.5), np.ones((6, 4), np.float32), REFERENCE, 6).tolist()) == list(range(6))


def test_the_same_images_give_the_same_choice():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(3), 200).astype(np.float32)
    embeddings = random.normal(size=(200, 4)).astype(np.float32)
    first, second = (choose(probabilities, embeddings, REFERENCE, 20).tolist() for _ in range(2))
    assert first == second

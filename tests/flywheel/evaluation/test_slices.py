"""Slices of a small set by hand, and of a real dataset version."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flywheel.data.index import build_index
from flywheel.data.measurements import STATISTICS
from flywheel.data.versions import DatasetArrays, build_version, open_arrays
from flywheel.evaluation.evidence import PairedCounts, SliceCounts
from flywheel.evaluation.pairing import pair, paired_counts, slice_counts
from flywheel.evaluation.record import EvaluationError, Predictions
from flywheel.evaluation.slices import slices_of, thirds
from flywheel.paths import Paths
from flywheel.records import Side, Source
from flywheel.settings import DataParameters

CLASSES = ("cat", "dog", "emu")


def arrays(brightness: list[float], labels: list[int], frozen: list[bool] | None = None) -> DatasetArrays:
    """A version without pixels; contrast and sharpness are the same everywhere."""
    count = len(brightness)
    statistics = np.full((count, len(STATISTICS)), 0.5, np.float32)
    statistics[:, STATISTICS.index("brightness")] = brightness
    sides = ["frozen" if kept else "train" for kept in frozen or [True] * count]
    return DatasetArrays(
        images=np.zeros((count, 1, 1, 3), np.uint8),
        labels=np.array(labels, np.int64),
        ids=np.array([f"{number:02d}" for number in range(count)]),
        sides=np.array(sides),
        statistics=statistics,
        statistic_names=STATISTICS,
    )


def answers(version: DatasetArrays, right: list[bool]) -> Predictions:
    """Logits of three classes that are right where they should be; rows come in any order."""
    answered = np.where(right, version.labels, (version.labels + 1) % 3)
    order = np.random.default_rng(0).permutation(len(right))
    return Predictions(version.ids[order], version.labels[order], np.eye(3, dtype=np.float32)[answered][order])


def test_paired_counts_by_hand():
    version = arrays([0.1, 0.9, 0.2, 0.8, 0.5, 0.6], [0, 0, 0, 1, 1, 1])
    slices = slices_of(version, CLASSES)
    challenger = answers(version, [True, True, False, True, False, False])
    champion = answers(version, [True, False, True, True, False, True])
    # both right, only the challenger, only the champion, neither
    pairing = pair(challenger, champion)
    assert paired_counts(pairing) == PairedCounts(2, 1, 2, 1)
    assert slice_counts(slices, pairing) == (
        SliceCounts("class cat", PairedCounts(1, 1, 1, 0)),
        SliceCounts("class dog", PairedCounts(1, 0, 1, 1)),  # no emu is in the set, and no slice of it
        SliceCounts("brightness low", PairedCounts(1, 0, 1, 0)),
        SliceCounts("brightness middle", PairedCounts(0, 0, 1, 1)),
        SliceCounts("brightness high", PairedCounts(1, 1, 0, 0)),
    )  # contrast and sharpness are the same everywhere: their slice would be the whole set


def test_images_that_are_set_aside_count_nowhere():
    version = arrays([0.1, 0.9, 0.2, 0.8, 0.5, 0.6], [0, 0, 0, 1, 1, 1])
    challenger = answers(version, [True, True, False, True, False, False])
    champion = answers(version, [True, False, True, True, False, True])
    pairing, chosen = pair(challenger, champion), np.array([True, True, False, True, False, False])
    assert paired_counts(pairing, chosen) == PairedCounts(2, 1, 0, 0)
    found = {part.name: part.counts for part in slice_counts(slices_of(version, CLASSES), pairing, chosen)}
    assert found["class cat"] == PairedCounts(1, 1, 0, 0)
    assert found["class dog"] == PairedCounts(1, 0, 0, 0)
    assert found["brightness middle"].images == 0


def test_thirds_by_hand():
    assert thirds(np.array([5.0, 1, 3, 2, 6, 4])).tolist() == [2, 0, 1, 0, 2, 1]
    assert thirds(np.array([1.0, 1, 1, 1, 2, 3])).tolist() == [1, 1, 1, 1, 2, 2]  # equal values stay together
    assert set(thirds(np.full(9, 0.3))) == {2}
    assert np.bincount(thirds(np.random.default_rng(0).random(8000))).tolist() == [2666, 2667, 2667]
    with pytest.raises(EvaluationError, match="1 of 3 statistics"):
        thirds(np.array([1.0, np.nan, 2.0]))


def test_only_the_side_that_was_asked_for_counts():
    kept = [True, False, True, True, False]
    version = arrays([0.1, 0.9, 0.2, 0.8, 0.5], [0, 0, 1, 1, 1], kept)
    slices = slices_of(version, CLASSES)
    assert slices.ids.tolist() == ["00", "02", "03"]
    assert [part.rows.tolist() for part in slices.slices] == [[0], [1, 2], [0], [1], [2]]
    assert len(slices_of(version, CLASSES, Side.TRAIN).ids) == 2
    with pytest.raises(EvaluationError, match="validation side has no image"):
        slices_of(version, CLASSES, Side.VALIDATION)


def test_answers_on_other_images_or_labels_or_none_are_refused():
    version = arrays([0.1, 0.9, 0.2], [0, 1, 2])
    slices, good = slices_of(version, CLASSES), answers(version, [True] * 3)
    fewer = Predictions(good.ids[:2], good.labels[:2], good.logits[:2])
    relabelled = Predictions(good.ids, (good.labels + 1) % 3, good.logits)
    renamed = Predictions(np.char.add(good.ids, "x"), good.labels, good.logits)
    for bad in (fewer, relabelled, renamed):
        with pytest.raises(EvaluationError, match="other images or labels"):
            pair(good, bad)
        with pytest.raises(EvaluationError, match="3 images of the slices"):
            slice_counts(slices, pair(bad, bad))
    unsure = Predictions(good.ids, good.labels, good.logits * np.nan)
    for one, other in ((unsure, good), (good, unsure)):
        with pytest.raises(EvaluationError, match="NaN"):
            pair(one, other)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder, rng = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    for number in range(240):
        pixels = np.clip(rng.uniform(30, 220) + rng.normal(0, rng.uniform(5, 60), (24, 24, 3)), 0, 255)
        path = folder / "pets" / CLASSES[number % 3] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


def version_of(home: Path, size: int) -> DatasetArrays:
    paths = Paths(home)
    index = build_index(Source("pets", home / "pets", "pets"), paths)
    return open_arrays(build_version(index, (), DataParameters(source="pets", size=size, subset=None), paths))


def test_the_slices_are_the_sets_own_at_whatever_size_it_is_packed(home):
    small, large = (slices_of(version_of(home, size), CLASSES) for size in (8, 24))
    assert np.array_equal(small.ids, large.ids)
    assert len(small.slices) == len(large.slices) == 3 + 9
    for one, other in zip(small.slices, large.slices, strict=True):
        assert (one.kind, one.name) == (other.kind, other.name)
        assert np.array_equal(one.rows, other.rows)
    for kind in ("class", "brightness", "contrast", "sharpness"):
        rows = np.concatenate([part.rows for part in small.slices if part.kind == kind])
        assert sorted(rows) == list(range(len(small.ids)))


def test_a_model_that_is_weak_in_the_dark_is_seen_there(home):
    version = version_of(home, 8)
    slices = slices_of(version, CLASSES)
    frozen = version.side(Side.FROZEN)
    dark = thirds(version.statistics[frozen, STATISTICS.index("brightness")]) == 0
    champion = Predictions(version.ids[frozen], version.labels[frozen], np.eye(3, dtype=np.float32)[slices.labels])
    weak = np.eye(3, dtype=np.float32)[(slices.labels + dark) % 3]
    counts = slice_counts(slices, pair(Predictions(champion.ids, champion.labels, weak), champion))
    lost = {part.name: part.counts.difference for part in counts if part.name.startswith("brightness")}
    assert lost == {"brightness low": -1.0, "brightness middle": 0.0, "brightness high": 0.0}

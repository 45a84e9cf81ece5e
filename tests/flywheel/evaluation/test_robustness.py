"""Measuring under corruption, with weaknesses that were planted, and keeping what was measured."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from flywheel.data.index import build_index
from flywheel.data.versions import build_version, open_arrays
from flywheel.evaluation import robustness
from flywheel.evaluation.corruptions import CONDITIONS, CORRUPTIONS, SEVERITIES, corrupt
from flywheel.evaluation.evaluate import evaluate
from flywheel.evaluation.record import EvaluationError, read_evaluation
from flywheel.evaluation.robustness import (
    MANIFEST,
    Condition,
    Robustness,
    RobustnessError,
    corrupted_accuracy,
    evaluate_robustness,
    measure_robustness,
    outcomes,
    recorded_robustness,
    robustness_difference,
    robustness_part,
    write_robustness,
)
from flywheel.identity import digest
from flywheel.paths import Paths
from flywheel.records import DatasetVersion, Preprocessing, Side, Source, TrainedModel, from_json, to_json
from flywheel.settings import DataParameters

CLASSES = ("bright", "dark")


def pictures(count: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Noisy images of two classes, none alike, their labels and ids."""
    labels = np.arange(count) % 2
    levels = np.where(labels == 0, 190, 60)[:, None, None, None]
    noise = np.random.default_rng(0).normal(0, 40, (count, 16, 16, 3))
    return np.clip(levels + noise, 0, 255).astype(np.uint8), labels, [f"{number:04d}" for number in range(count)]


@dataclass
class Brightness:
    """Answers by the mean of the pixels, but turns the answer on images that it was told to be weak on."""

    model: TrainedModel
    weak_on: set[bytes] = field(default_factory=set)
    threshold: float = 125.0
    calls: int = 0

    def predict_packed(self, images):
        self.calls += 1
        lighter = images.reshape(len(images), -1).mean(axis=1) - self.threshold
        lighter *= [-1 if image.tobytes() in self.weak_on else 1 for image in images]
        return SimpleNamespace(logits=np.stack([lighter, -lighter], axis=1).astype(np.float32))


def classifier(name: str = "model-1", size: int = 16, version: DatasetVersion | None = None, **more) -> Brightness:
    preprocessing = Preprocessing(size, version.filter if version else "bicubic", (0.5,) * 3, (0.2,) * 3)
    model = TrainedModel(
        name, Path(), version.id if version else "ds-1", "task-1", "brightness", CLASSES, preprocessing, 1, 0, 1, "cpu",
        1, 1, 0.9, "ab" * 32, 1.0, 1.0,
    )  # fmt: skip
    return Brightness(model, **more)


def record(right: np.ndarray, name: str = "model-1") -> Robustness:
    """Of outcomes bool[21, images]."""
    conditions = tuple(
        Condition(*condition, int(bits.sum()), np.packbits(bits).tobytes().hex())
        for condition, bits in zip(CONDITIONS, right, strict=True)
    )
    return Robustness(name, "ab" * 32, right.shape[1], 16, conditions, 1.0)


def test_a_model_that_breaks_under_blur_alone_is_seen():
    images, labels, ids = pictures(300)
    blurred = {image.tobytes() for severity in SEVERITIES for image in corrupt(images, ids, "blur", severity)}
    champion = measure_robustness(classifier("model-1"), images, labels, ids)
    challenger = measure_robustness(classifier("model-2", weak_on=blurred), images, labels, ids)
    found = {name: robustness_difference(challenger, champion, name) for name in CORRUPTIONS}
    assert found["blur"].high < -0.9
    assert all(found[name].value == 0 for name in CORRUPTIONS if name != "blur")
    assert all(found[name].low < 0 < found[name].high for name in CORRUPTIONS if name != "blur")
    overall = robustness_difference(challenger, champion)
    assert overall.value == pytest.approx(found["blur"].value / 7)
    assert overall.high < 0
    assert corrupted_accuracy(challenger, "blur").high < 0.1 < 0.9 < corrupted_accuracy(champion, "blur").low


def test_the_counts_are_those_of_the_corrupted_images():
    images, labels, ids = pictures(90)
    model = classifier()
    found = measure_robustness(model, images, labels, ids)
    for condition, right in zip(found.conditions, outcomes(found), strict=True):
        copies = corrupt(images, ids, condition.corruption, condition.severity)
        expected = model.predict_packed(copies).logits.argmax(axis=1) == labels
        assert condition.right == expected.sum()
        assert np.array_equal(right, expected)


def test_batches_memory_maps_and_order_dont_show(tmp_path, monkeypatch):
    images, labels, ids = pictures(100)
    found = measure_robustness(classifier(), images, labels, ids, clock=lambda: 0.0)
    np.save(tmp_path / "images.npy", images)
    monkeypatch.setattr(robustness, "IMAGES_AT_ONCE", 7)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert measure_robustness(classifier(), mapped, labels, np.array(ids), clock=lambda: 0.0) == found
    turned = measure_robustness(classifier(), images[::-1], labels[::-1], ids[::-1], clock=lambda: 0.0)
    assert turned == found


def test_the_part_is_the_sets_own():
    ids = [f"{number:064x}" for number in range(5000)]
    part = robustness_part(ids)
    chosen = [ids[row] for row in part]
    assert len(set(chosen)) == 1000
    assert chosen == sorted(chosen)
    backwards = robustness_part(ids[::-1])
    assert [ids[::-1][row] for row in backwards] == chosen
    assert {ids[row] for row in robustness_part(ids, 300)} < set(chosen)
    assert [chosen[row] for row in robustness_part(chosen)] == chosen  # a part of the part is the part
    counts = np.bincount(part % 10)  # ten classes in turn: a sample, so about a hundred of each
    assert counts.min() > 60
    assert counts.max() < 140


def test_no_more_than_the_part_is_measured():
    images, labels, ids = pictures(1200)
    assert measure_robustness(classifier(), images, labels, ids).images == 1000


def test_what_cant_be_measured_is_an_error():
    images, labels, ids = pictures(4)
    with pytest.raises(RobustnessError, match="no images"):
        measure_robustness(classifier(), images[:0], labels[:0], [])
    with pytest.raises(RobustnessError, match="gaussian noise 1 isn't finite"):
        measure_robustness(classifier(threshold=float("nan")), images, labels, ids)


def test_the_difference_by_hand():
    right = np.ones((21, 4), bool)
    worse = right.copy()
    worse[:, 0] = False  # one image of four is lost under all
    worse[:7, 1] = False  # and another under a third
    found = robustness_difference(record(worse, "model-2"), record(right))
    # Differences −1, −1/3, 0, 0, and −1 and 1 for the variance: mean −1/3, Σ(d − mean)² = 4/9 + 0 + 1/9 + 1/9, and
    # (−2/3)² + (4/3)²: together 26/9, over 4 + 1 and 4: √(26/180) = 0.38006, times 1.95996 is 0.7449.
    assert (found.value, found.low, found.high) == pytest.approx((-1 / 3, -1.0, -1 / 3 + 0.7449), abs=1e-4)
    swapped = robustness_difference(record(right), record(worse))
    assert (swapped.value, swapped.low, swapped.high) == pytest.approx((1 / 3, 1 / 3 - 0.7449, 1.0), abs=1e-4)


def test_models_that_never_differ_leave_a_doubt_that_shrinks_with_the_images():
    few, many = (record(np.ones((21, count), bool)) for count in (10, 1000))
    assert robustness_difference(few, few).low < -0.2
    assert -0.01 < robustness_difference(many, many).low < 0 < robustness_difference(many, many).high < 0.01


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Images are the units: their 21 copies are right or wrong together, and count as one."""
    rng, trials, images = np.random.default_rng(0), 300, 250
    held = naive = 0
    for _ in range(trials):
        hard = rng.normal(0, 1, images)  # common to both models, and to all copies
        first, second = (
            hard + rng.normal(0, 0.5, images) + rng.normal(0, 0.3, (21, images)) < bound for bound in (0.2, 0.0)
        )
        truth = 0.06836  # Φ(0.2 / s) − Φ(0), s = √(1 + 0.25 + 0.09)
        found = robustness_difference(record(first, "model-2"), record(second))
        held += found.low <= truth <= found.high
        difference = first.astype(float) - second
        half = 1.96 * difference.std() / np.sqrt(difference.size)
        naive += abs(difference.mean() - truth) <= half
    assert 0.92 <= held / trials <= 0.985
    assert naive / trials < 0.6  # what copies that count as images would say


def test_models_on_other_images_arent_compared():
    one = record(np.ones((21, 4), bool))
    for other in (replace(one, part_sha256="cd" * 32), record(np.ones((21, 5), bool))):
        with pytest.raises(RobustnessError, match="different images"):
            robustness_difference(one, other)
    with pytest.raises(ValueError, match="no such corruption"):
        robustness_difference(one, one, "snow")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    images, labels, ids = pictures(200)
    for pixels, label, name in zip(images, labels, ids, strict=True):
        path = folder / "pets" / CLASSES[label] / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def version(home) -> DatasetVersion:
    index = build_index(Source("pets", home / "pets", "pets"), Paths(home))
    return build_version(index, (), DataParameters(source="pets", size=16, subset=None), Paths(home))


@pytest.fixture
def paths(home, tmp_path) -> Paths:
    """A home of its own for reports; the originals stay where they are."""
    (tmp_path / "data" / "processed").mkdir(parents=True)
    (tmp_path / "data" / "processed" / "images").symlink_to(Paths(home).images, target_is_directory=True)
    return Paths(tmp_path)


@pytest.fixture
def folder(version, paths) -> Path:
    """Of an evaluation with its robustness."""
    model = classifier(version=version)
    evaluation = evaluate(model, version, paths)
    evaluate_robustness(model, version, paths)
    return evaluation.folder


def test_it_is_measured_once_and_leaves_the_evaluation_as_it_was(version, paths):
    model = classifier(version=version)
    evaluation = evaluate(model, version, paths)
    before = {path.name: path.read_bytes() for path in evaluation.folder.iterdir()}
    found = evaluate_robustness(model, version, paths)
    assert found.images == len(open_arrays(version).side(Side.FROZEN))
    after = {path.name: path.read_bytes() for path in evaluation.folder.iterdir()}
    assert set(after) == set(before) | {MANIFEST}
    assert all(after[name] == content for name, content in before.items())
    assert read_evaluation(evaluation.folder) == evaluation
    calls = model.calls
    assert evaluate_robustness(model, version, paths) == found == recorded_robustness(evaluation.folder)
    assert model.calls == calls


def test_the_record_goes_to_json_and_back(folder):
    found = recorded_robustness(folder)
    assert from_json(Robustness, to_json(found)) == found


def spoil(folder: Path, change) -> None:
    document = json.loads((folder / MANIFEST).read_text())
    change(document)
    (folder / MANIFEST).write_text(json.dumps(document))


def resealed(change):
    """A change whose hash is right: what another version, or a careless hand, would leave."""

    def apply(document):
        change(document)
        del document["sha256"]
        document["sha256"] = digest(document)

    return apply


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d["robustness"]["conditions"][3].update(outcomes="00" * 99),
        lambda d: d["robustness"].update(images=7),
        lambda d: d["robustness"].update(seconds=float("nan")),
        lambda d: d.update(sha256="00" * 32),
        lambda d: d.pop("robustness"),
        lambda d: d.pop("sha256"),
        lambda d: d.clear(),
        resealed(lambda d: d["settings"].update(format=0)),
        resealed(lambda d: d["settings"]["strengths"].update(blur=[1, 2, 3])),
        resealed(lambda d: d.update(evaluation_id="eval-another")),
        resealed(lambda d: d["robustness"]["conditions"][3].update(right=1)),
        resealed(lambda d: d["robustness"]["conditions"][3].update(outcomes="zz")),
        resealed(lambda d: d["robustness"]["conditions"][3].update(outcomes="")),
        resealed(lambda d: d["robustness"]["conditions"].pop()),
        resealed(lambda d: d["robustness"].update(images=0)),
        resealed(lambda d: d["robustness"].update(images="many")),
        resealed(lambda d: d.update(robustness=None)),
    ],
)
def test_a_damaged_record_isnt_trusted_but_made_again(folder, version, paths, damage):
    whole = recorded_robustness(folder)
    spoil(folder, damage)
    with pytest.raises(RobustnessError, match=MANIFEST):
        recorded_robustness(folder)
    again = evaluate_robustness(classifier(version=version), version, paths)
    assert replace(again, seconds=0) == replace(whole, seconds=0)
    assert recorded_robustness(folder) == again


def test_a_record_that_is_missing_cut_off_or_moved_is_an_error(folder, tmp_path):
    moved = tmp_path / "eval-another"
    folder.rename(moved)
    with pytest.raises(RobustnessError, match="another evaluation"):
        recorded_robustness(moved)
    path = moved / MANIFEST
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RobustnessError, match="none found"):
        recorded_robustness(moved)
    path.unlink()
    with pytest.raises(EvaluationError, match="none found"):
        recorded_robustness(moved)


def test_without_an_evaluation_there_is_no_place_for_it(version, paths, tmp_path):
    with pytest.raises(RobustnessError, match="Evaluate the model first"):
        evaluate_robustness(classifier(version=version), version, paths)
    with pytest.raises(RobustnessError, match="Evaluate the model first"):
        write_robustness(tmp_path / "eval-1", record(np.ones((21, 4), bool)))


def test_a_champion_of_another_size_is_corrupted_at_its_own(version, paths, folder):
    smaller = classifier("model-2", size=8, version=version)
    (paths.report(robustness.evaluation_id("model-2", version.evaluation_set_id))).mkdir()
    found = evaluate_robustness(smaller, version, paths)
    assert found.size == 8
    assert abs(robustness_difference(found, recorded_robustness(folder)).value) < 0.1

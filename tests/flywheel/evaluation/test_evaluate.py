"""Measuring on a real dataset version of tiny generated images, with a tiny real classifier."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from flywheel.data.index import build_index
from flywheel.data.versions import build_version, load_version, open_arrays
from flywheel.evaluation.evaluate import evaluate, recorded_evaluation
from flywheel.evaluation.metrics import MetricsError
from flywheel.evaluation.record import EvaluationError, read_evaluation, read_predictions
from flywheel.paths import Paths
from flywheel.records import DatasetVersion, Preprocessing, Side, Source, TrainedModel
from flywheel.settings import DataParameters

CLASSES = ("bright", "dark")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """200 noisy images of two classes, none alike."""
    folder = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)
    for number in range(200):
        label = CLASSES[number % 2]
        level = 190 if label == "bright" else 60
        pixels = np.clip(level + rng.normal(0, 40, (16, 16, 3)), 0, 255).astype(np.uint8)
        path = folder / "pets" / label / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def version(home) -> DatasetVersion:
    index = build_index(Source("pets", home / "pets", "pets"), Paths(home))
    return build_version(index, (), DataParameters(source="pets", size=16, subset=None), Paths(home))


@pytest.fixture
def paths(version, tmp_path) -> Paths:
    """A home of its own for reports; the version stays where it was made."""
    return Paths(tmp_path)


@dataclass
class Brightness:
    """Answers by the mean of the pixels: right on nearly every image, and without torch."""

    model: TrainedModel
    seen: list[int] = field(default_factory=list)
    threshold: float = 125.0

    def predict_packed(self, images):
        self.seen.append(len(images))
        means = images.reshape(len(images), -1).mean(axis=1)
        logits = np.stack([means - self.threshold, self.threshold - means], axis=1) / 20
        return SimpleNamespace(logits=logits.astype(np.float32))

    def classify(self, images):
        size = self.model.preprocessing.size
        assert all(image.shape == (16, 16, 3) for image in images)  # the originals
        return self.predict_packed(np.stack([image[:size, :size] for image in images]))


def classifier(version: DatasetVersion, size: int = 16, classes=CLASSES, name: str = "model-1", **more) -> Brightness:
    preprocessing = Preprocessing(size, version.filter, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    model = TrainedModel(
        name, Path(), version.id, version.task_id, "brightness", classes, preprocessing, 1, 0, 1, "cpu", 1, 1, 0.9,
        "ab" * 32, 1.0, 1.0,
    )  # fmt: skip
    return Brightness(model, **more)


def ticking():
    times = iter([10.0, 12.0])
    return lambda: next(times)


def test_the_frozen_side_and_nothing_else_is_measured(version, paths):
    evaluation = evaluate(classifier(version), version, paths, clock=ticking())
    arrays = open_arrays(version)
    frozen = arrays.side(Side.FROZEN)
    answers = read_predictions(evaluation.folder)
    assert sorted(answers.ids.tolist()) == sorted(arrays.ids[frozen].tolist())
    assert evaluation.images == len(frozen) == version.counts["frozen"]
    assert evaluation.images_per_second == len(frozen) / 2
    assert (evaluation.model_id, evaluation.evaluation_set_id) == ("model-1", version.evaluation_set_id)
    assert evaluation.folder == paths.report(evaluation.id)


def test_the_answers_belong_to_their_images(version, paths):
    evaluation = evaluate(classifier(version), version, paths)
    arrays = open_arrays(version)
    answers = read_predictions(evaluation.folder)
    row_of = {image: row for row, image in enumerate(arrays.ids.tolist())}
    for image, label, logits in zip(answers.ids, answers.labels, answers.logits, strict=True):
        row = row_of[str(image)]
        assert label == arrays.labels[row]
        assert logits[0] == pytest.approx((arrays.images[row].mean() - 125) / 20, abs=1e-4)
    assert evaluation.top1.value == (answers.logits.argmax(axis=1) == answers.labels).mean()
    assert evaluation.top1.value > 0.9


def test_what_is_recorded_is_not_computed_again(version, paths):
    first = evaluate(classifier(version), version, paths)
    again = classifier(version)
    assert evaluate(again, version, paths) == first
    assert again.seen == []
    assert recorded_evaluation("model-1", version, paths) == first
    assert recorded_evaluation("model-2", version, paths) is None


def test_a_damaged_record_is_made_again(version, paths):
    first = evaluate(classifier(version), version, paths, clock=ticking())
    (first.folder / "logits.parquet").write_bytes(b"PAR1")
    again = classifier(version)
    assert evaluate(again, version, paths, clock=ticking()) == first
    assert sum(again.seen) == first.images
    assert read_evaluation(first.folder) == first


def test_progress_ends_at_the_last_image(version, paths):
    heard = []
    evaluate(classifier(version), version, paths, progress=lambda *event: heard.append(event))
    assert heard[-1] == ("evaluate", version.counts["frozen"], version.counts["frozen"])


def test_a_model_of_another_size_is_measured_on_the_original_images(version, home):
    small = classifier(version, size=8, name="model-small")
    evaluation = evaluate(small, version, Paths(home))
    assert evaluation.images == version.counts["frozen"]
    assert evaluation.top1.value > 0.9


def test_a_model_of_another_task_is_refused(version, paths):
    with pytest.raises(EvaluationError, match="own task's versions"):
        evaluate(classifier(version, classes=("bright", "dim")), version, paths)


def test_a_model_that_answers_nan_leaves_no_record(version, paths):
    with pytest.raises(MetricsError, match="NaN"):
        evaluate(classifier(version, threshold=float("nan")), version, paths)
    assert not paths.reports.exists()


def test_a_version_without_a_frozen_side_is_refused(version, paths, monkeypatch):
    arrays = open_arrays(version)
    thawed = replace(arrays, sides=np.full(len(arrays.sides), "train"))
    monkeypatch.setattr("flywheel.evaluation.evaluate.open_arrays", lambda _: thawed)
    with pytest.raises(EvaluationError, match="frozen side is empty"):
        evaluate(classifier(version), version, paths)


def test_the_version_read_again_has_the_same_evaluation(version, paths):
    evaluation = evaluate(classifier(version), version, paths)
    assert recorded_evaluation("model-1", load_version(version.folder), paths) == evaluation

"""The data dictionary is what the code makes of itself, and names what really lies on disk."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from flywheel.data.index import build_index, read_index
from flywheel.data.sources import fetch_source
from flywheel.data.versions import build_version
from flywheel.evaluation.record import PREDICTIONS, Predictions, write_record
from flywheel.evaluation.robustness import Robustness, write_robustness
from flywheel.model.folder import MANIFEST, write_manifest
from flywheel.paths import Paths
from flywheel.records import DatasetVersion, Evaluation, ImageIndex, Interval, Preprocessing, TrainedModel
from flywheel.settings import DataParameters, Settings
from references import dictionary


def documented(title: str) -> list[str]:
    """The fields under a heading of the committed page."""
    (section,) = (part for part in PAGE.split("\n## ") if part.startswith(f"{title}\n"))
    return [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")]


PAGE = dictionary.PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Paths, ImageIndex, DatasetVersion]:
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    index = build_index(fetch_source("digits", settings), settings.paths)
    return settings.paths, index, build_version(index, (), DataParameters(source="digits"), settings.paths)


def test_the_page_is_what_the_code_makes() -> None:
    assert dictionary.dictionary() == PAGE, "run 'python -m references.dictionary' to make it again"


def test_a_field_without_a_meaning_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(dictionary.MEANINGS["champions"], "since")
    with pytest.raises(KeyError, match="'since' has no meaning"):
        dictionary.dictionary()


def test_data_is_as_documented(digits: tuple[Paths, ImageIndex, DatasetVersion]) -> None:
    _, index, version = digits
    assert list(read_index(index, with_descriptors=True)) == documented("Index")
    manifests = {
        "Index manifest": index.path.with_name("index.json"),
        "Dataset manifest": version.folder / "manifest.json",
    }
    for title, path in manifests.items():
        assert set(json.loads(path.read_text(encoding="utf-8"))) == set(documented(title))
    assert pq.read_schema(version.folder / "rows.parquet").names == documented("Dataset rows")
    with (version.folder / "left_out.csv").open(encoding="utf-8", newline="") as file:
        assert next(csv.reader(file)) == documented("Left out")


def test_a_model_manifest_is_as_documented(tmp_path: Path) -> None:
    preprocessing = Preprocessing(8, "bicubic", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    texts = ("model-0", tmp_path, "ds-0", "task-0", "tiny", ("cat", "dog"), preprocessing)
    write_manifest(tmp_path, TrainedModel(*texts, 10, 0, 1, "cpu", 1, 1, 0.5, "0" * 64, 1.0, 100.0), {}, {})
    manifest = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    assert set(manifest) == set(documented("Model manifest"))
    assert set(manifest["model"]) == set(documented("Trained model"))


def test_an_evaluation_is_as_documented(tmp_path: Path) -> None:
    measured = Evaluation(
        *("eval-0", tmp_path / "eval-0", "model-0", "ds-0", "evalset-0", "frozen", 2, Interval(1.0, 0.3, 1.0), 0.5, ()),
        *(((1, 0), (0, 1)), 0.1, 0.2, 100.0),
    )
    answers = Predictions(np.array(["a", "b"]), np.array([0, 1]), np.eye(2, dtype=np.float32))
    folder = write_record(measured, answers).folder
    assert pq.read_schema(folder / PREDICTIONS).names == documented("Answers by image")
    written = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert set(written) == set(documented("Evaluation"))
    write_robustness(folder, Robustness("model-0", "0" * 64, 2, 8, (), 1.0))
    written = json.loads((folder / "robustness.json").read_text(encoding="utf-8"))
    assert set(written) == set(documented("Robustness record"))
    assert set(written["robustness"]) == set(documented("Robustness"))

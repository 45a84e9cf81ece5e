"""Figures count as drawn only while they, their records and their code are what the note says."""

from pathlib import Path

import pytest

from flywheel.paths import Paths
from flywheel.records import DatasetVersion, Evaluation, Interval, Preprocessing, TrainedModel
from flywheel.report import drawn
from flywheel.report.drawn import find_figures, note_figures

VERSION = DatasetVersion("ds-1", Path("ds-1"), "pets", "idx-1", ("a",), {"train": 3}, 32, "box", "evalset-1")
INTERVAL = Interval(0.5, 0.1, 0.9)
PREPROCESSING = Preprocessing(32, "box", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


@pytest.fixture
def model(paths: Paths) -> TrainedModel:
    folder = paths.model("model-1")
    folder.mkdir(parents=True)
    (folder / "history.json").write_text("[1]")
    shape = ("model-1", folder, "ds-1", "task-1", "airbench_small", ("a",), PREPROCESSING)
    return TrainedModel(*shape, 5, 0, 1, "cpu", 1, 1, 0.5, "ab" * 32, 1.0, 2.0)


def evaluation(sha256: str = "cd" * 32) -> Evaluation:
    measured = (INTERVAL, 0.5, (), ((1,),), 0.1, 0.2, 9.0, sha256)
    return Evaluation("eval-1", Path("eval-1"), "model-1", "ds-1", "evalset-1", "frozen", 3, *measured)


@pytest.fixture
def figures(paths: Paths, model: TrainedModel) -> list[Path]:
    folder = paths.figures(model.id)
    folder.mkdir(parents=True)
    files = [folder / "reliability.png", folder / "mistakes.png"]
    for file in files:
        file.write_bytes(file.name.encode())
    note_figures(files, model, evaluation(), VERSION, paths)
    return files


def test_drawn_figures_are_found_in_their_order(figures: list[Path], model: TrainedModel, paths: Paths) -> None:
    assert find_figures(model, evaluation(), VERSION, paths) == figures


def test_a_missing_or_damaged_figure_is_drawn_again(figures: list[Path], model: TrainedModel, paths: Paths) -> None:
    figures[1].write_bytes(b"half")
    assert find_figures(model, evaluation(), VERSION, paths) is None
    figures[1].unlink()
    assert find_figures(model, evaluation(), VERSION, paths) is None


def test_other_records_are_drawn_again(figures: list[Path], model: TrainedModel, paths: Paths) -> None:
    assert find_figures(model, evaluation("ef" * 32), VERSION, paths) is None
    (model.folder / "history.json").write_text("[2]")
    assert find_figures(model, evaluation(), VERSION, paths) is None


def test_other_code_draws_again(
    figures: list[Path], model: TrainedModel, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawn, "code_version", lambda *_: "another")
    assert find_figures(model, evaluation(), VERSION, paths) is None


def test_figures_without_a_note_are_drawn_again(figures: list[Path], model: TrainedModel, paths: Paths) -> None:
    (figures[0].parent / "figures.json").write_text("{")
    assert find_figures(model, evaluation(), VERSION, paths) is None

"""Figures hold the numbers of their records, for few classes and for many."""

import threading
import warnings
from io import BytesIO

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from flywheel.evaluation.metrics import reliability
from flywheel.figures import confusion, learning_curve, mistakes, reliability_diagram, save_figure, shown

ROW = {"epoch": 1, "step": 4, "top1_validation": None, "curve": [{"step": 4, "loss": 2.5}]}


def pixels(figure) -> np.ndarray:
    """Draw it for real; a warning of matplotlib's (a layout that does not fit, a missing glyph) is an error."""
    file = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB"))


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_the_confusion_matrix_of_few_classes_shows_every_count_and_name():
    figure = confusion(np.array([[5, 1], [2, 7]]), ["ant", "bee"])
    grid = figure.axes[0]
    assert texts(grid) == ["5", "1", "2", "7"]
    assert [label.get_text() for label in grid.get_yticklabels()] == ["ant", "bee"]
    assert np.asarray(grid.images[0].get_array()) == pytest.approx(np.array([[5 / 6, 1 / 6], [2 / 9, 7 / 9]]))
    assert pixels(figure).shape[1] == 900


@pytest.mark.parametrize("count", [13, 30, 31, 150])
def test_the_confusion_matrix_of_many_classes_is_drawn_without_a_warning(count):
    figure = confusion(np.eye(count, dtype=int) * 9, [f"a rather long class name {i}" for i in range(count)])
    assert pixels(figure).shape[1] == 900
    assert texts(figure.axes[0]) == []


def test_many_classes_list_their_commonest_confusions_most_first():
    matrix = np.eye(40, dtype=int) * 20
    matrix[3, 7], matrix[8, 2] = 6, 9
    named = texts(confusion(matrix, [f"c{i}" for i in range(40)]).axes[1])
    assert [name.strip() for name in named] == ["c3 → c7", "c8 → c2"]  # drawn from the bottom up


def test_a_class_without_images_is_an_empty_row():
    grid = confusion(np.array([[0, 0], [1, 1]]), ["ant", "bee"]).axes[0].images[0].get_array()
    assert grid[0].tolist() == [0, 0]


def test_the_learning_curve_marks_the_kept_epoch_and_counts_steps_in_epochs():
    curves = [
        [{"step": 2, "loss": 2.5}, {"step": 4, "loss": 2.0}],
        [{"step": 6, "loss": 1.5}, {"step": 8, "loss": 1.0}],
    ]
    history = [
        {"epoch": 1, "step": 4, "top1_validation": 0.4, "curve": curves[0]},
        {"epoch": 2, "step": 8, "top1_validation": 0.6, "curve": curves[1]},
    ]
    figure = learning_curve(history, best_epoch=2)
    upper, lower = figure.axes
    assert upper.lines[0].get_xydata().tolist() == [[0.5, 2.5], [1.0, 2.0], [1.5, 1.5], [2.0, 1.0]]
    assert lower.lines[0].get_xydata().tolist() == [[1.0, 0.4], [2.0, 0.6]]
    assert lower.get_legend().get_texts()[0].get_text() == "kept: epoch 2"
    assert not lower.texts


def test_a_learning_curve_without_a_validation_side_says_so():
    figure = learning_curve([ROW], best_epoch=1)
    assert [text.get_text() for text in figure.axes[1].texts] == ["no image on the validation side"]
    pixels(figure)
    assert pixels(figure).shape[1] == 900


def test_the_learning_curve_of_one_epoch_without_a_validation_side_is_drawn():
    figure = learning_curve([ROW], best_epoch=1)
    assert len(figure.axes[1].lines[0].get_xdata()) == 0
    assert pixels(figure).shape[1] == 900


def test_the_reliability_diagram_draws_filled_bins_at_their_accuracy():
    logits = np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]]))
    figure = reliability_diagram(reliability(logits, np.array([0, 1, 0])), 0.1)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == [1.0, 0.5]
    assert [int(bar.get_height()) for bar in figure.axes[1].patches if bar.get_height()] == [1, 2]
    assert pixels(figure).shape[1] == 900


@pytest.mark.parametrize("count", [0, 1, 16])
def test_the_grid_of_mistakes_fits_any_number(count):
    images = [(np.full((8, 8, 3), 200, dtype=np.uint8), "ant →\nbee 0.99")] * count
    figure = mistakes(images, 100)
    assert sum(bool(axes.images) for axes in figure.axes) == count
    assert pixels(figure).shape[1] == 900


def test_a_class_name_is_shortened_and_a_dollar_sign_is_no_formula():
    assert shown("$a$") == r"\$a\$"
    assert shown("x" * 40) == "x" * 17 + "…"
    assert pixels(confusion(np.eye(2, dtype=int), ["$\\frac{$", "b_{"])).shape[1] == 900


def test_two_runs_may_draw_the_same_figure_at_once(tmp_path, monkeypatch):
    both_drew = threading.Barrier(2, timeout=30)
    saved, errors = Figure.savefig, []

    def save_and_wait(*arguments, **options):
        saved(*arguments, **options)
        both_drew.wait()

    def draw():
        try:
            save_figure(learning_curve([{**ROW, "top1_validation": 0.5}], 1), tmp_path / "curve.png")
        except OSError as error:
            errors.append(error)

    monkeypatch.setattr(Figure, "savefig", save_and_wait)
    threads = [threading.Thread(target=draw) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]
    assert Image.open(tmp_path / "curve.png").width == 900


def test_a_figure_that_can_not_be_written_leaves_nothing(tmp_path):
    (tmp_path / "curve.png").mkdir()
    with pytest.raises(OSError, match="directory"):
        save_figure(learning_curve([ROW], 1), tmp_path / "curve.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]

"""Every plot of a model, drawn from its records: nothing here trains, predicts or asks a database.

Figures are made by matplotlib's object-oriented interface, which has no global state: they may be drawn in a thread
and beside a user's own plots. They are 900 pixels wide with large type, readable on a phone.
"""

import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from flywheel.data.versions import open_arrays
from flywheel.evaluation.metrics import ReliabilityBin, confidences, confident_mistakes, reliability
from flywheel.evaluation.record import Predictions, read_predictions
from flywheel.evaluation.statistics import wilson
from flywheel.model.folder import HISTORY
from flywheel.paths import Paths
from flywheel.records import DatasetVersion, Evaluation, Side, TrainedModel

INK, QUIET, BLUE, ORANGE, RED, PALE = "#1f2937", "#9ca3af", "#2563eb", "#ea580c", "#dc2626", "#bfdbfe"
DOTS_PER_INCH = 150
WIDTH = 6.0  # inches
CLASSES_WITH_COUNTS = 12  # more counts than this squared can't be read in the width
CLASSES_WITH_LABELS = 30
MISTAKES = 16


def draw_all(model: TrainedModel, evaluation: Evaluation, version: DatasetVersion, paths: Paths) -> list[Path]:
    """Draw the learning curve, confusion matrix, reliability diagram and mistakes as PNG.

    They go to `reports/figures/<model id>/`. Raises EvaluationError or OSError where a record is missing.
    """
    predictions = read_predictions(evaluation.folder)
    history = json.loads((model.folder / HISTORY).read_text(encoding="utf-8"))
    images = _mistaken_images(version, predictions)
    drawings: dict[str, Callable[[], Figure]] = {
        "learning_curve": lambda: learning_curve(history, model.best_epoch),
        "confusion_matrix": lambda: confusion(np.array(evaluation.confusion), version.classes),
        "reliability": lambda: reliability_diagram(reliability(predictions.logits, predictions.labels), evaluation.ece),
        "mistakes": lambda: mistakes(images, evaluation.images),
    }
    folder = paths.figures(model.id)
    folder.mkdir(parents=True, exist_ok=True)
    return [save_figure(draw(), folder / f"{name}.png") for name, draw in drawings.items()]


def learning_curve(history: Sequence[Mapping[str, Any]], best_epoch: int) -> Figure:
    """Training loss within the epochs and validation top-1 after each, with the epoch whose weights were kept."""
    steps_an_epoch = history[-1]["step"] / history[-1]["epoch"]
    steps = [point for row in history for point in row["curve"]]
    measured = [row for row in history if row["top1_validation"] is not None]
    figure, (upper, lower) = figure_of(6.2, rows=2, sharex=True)
    upper.plot([row["step"] / steps_an_epoch for row in steps], [row["loss"] for row in steps], color=ORANGE)
    upper.set_ylabel("training loss")
    epochs, shares = [row["epoch"] for row in measured], [row["top1_validation"] for row in measured]
    lower.plot(epochs, shares, color=BLUE, marker="o", markersize=4)
    lower.axvline(best_epoch, color=QUIET, linestyle="--", linewidth=1, label=f"kept: epoch {best_epoch}")
    lower.set_ylabel("validation top-1")
    lower.yaxis.set_major_formatter(PercentFormatter(1.0))
    lower.set_xlabel("epoch")
    lower.set_xlim(0, history[-1]["epoch"] * 1.03)
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    lower.legend(frameon=False, loc="lower right")
    if not measured:
        lower.set_yticks([])
        lower.text(0.5, 0.5, "no image on the validation side", ha="center", color=QUIET, transform=lower.transAxes)
    figure.suptitle("Learning curve", color=INK)
    return figure


def confusion(matrix: NDArray[np.integer], classes: Sequence[str]) -> Figure:
    """The share of each true class that each class was predicted for.

    Few classes carry counts and names; with many, the commonest confusions are listed instead.
    """
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    many = len(classes) > CLASSES_WITH_LABELS
    figure, axes = figure_of(9.6, rows=2, height_ratios=[6, 3]) if many else figure_of(6.2)
    grid = axes[0]
    drawn = grid.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(drawn, ax=grid, fraction=0.046, pad=0.03, format=PercentFormatter(1.0), label="of the true class")
    grid.set_xlabel("predicted class" + (", in class list order" if many else ""))
    grid.set_ylabel("true class" + (", in class list order" if many else ""))
    grid.set_title("Confusion matrix", color=INK)
    if many:
        _commonest_confusions(axes[1], matrix, classes)
    else:
        _name_cells(grid, matrix, shares, classes)
    return figure


def _name_cells(grid: Axes, matrix: NDArray[Any], shares: NDArray[Any], classes: Sequence[str]) -> None:
    names = [shown(name) for name in classes]
    size = 10 if len(names) <= CLASSES_WITH_COUNTS else 7
    grid.set_xticks(range(len(names)), names, rotation=90 if len(names) > 4 else 0, fontsize=size)
    grid.set_yticks(range(len(names)), names, fontsize=size)
    if len(names) > CLASSES_WITH_COUNTS:
        return
    for (row, column), count in np.ndenumerate(matrix):
        colour = "white" if shares[row, column] > 0.5 else INK
        grid.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize=8)


def _commonest_confusions(axes: Axes, matrix: NDArray[Any], classes: Sequence[str], limit: int = 10) -> None:
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = [cell for cell in np.argsort(-wrong, axis=None, kind="stable")[:limit] if wrong.flat[cell]]
    pairs = [divmod(int(cell), len(classes)) for cell in order][::-1]
    axes.barh(range(len(pairs)), [int(wrong[pair]) for pair in pairs], color=PALE)
    axes.set_yticks([])
    for place, (true, predicted) in enumerate(pairs):
        # inside the axes: as tick labels, long names would take the width from the matrix above
        name = f" {shown(classes[true], 24)} → {shown(classes[predicted], 24)}"
        axes.text(0, place, name, va="center", color=INK, fontsize=9)
    axes.set_xlabel("images")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title("Commonest confusions, true → predicted", color=INK, fontsize=11)


def reliability_diagram(bins: Sequence[ReliabilityBin], ece: float) -> Figure:
    """Accuracy against confidence with Wilson intervals, and how many images stand behind each bin."""
    figure, (upper, lower) = figure_of(7.2, rows=2, sharex=True, height_ratios=[3, 1])
    filled = [part for part in bins if part.images]
    middles = [(part.low + part.high) / 2 for part in filled]
    width = 0.92 / len(bins)
    accuracy = [wilson(round(part.accuracy * part.images), part.images) for part in filled]
    upper.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1, zorder=3, label="confidence = accuracy")
    errors = [[each.value - each.low for each in accuracy], [each.high - each.value for each in accuracy]]
    heights = [each.value for each in accuracy]
    upper.bar(middles, heights, width, color=BLUE, alpha=0.85, yerr=errors, ecolor=INK, capsize=2, label="accuracy")
    upper.scatter([part.confidence for part in filled], heights, color=ORANGE, zorder=3, s=16, label="mean confidence")
    upper.set_ylim(0, 1.02)
    upper.set_ylabel("accuracy")
    # above the bars: inside, it would lie on those of a model that is surer than right, or the other way round
    upper.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=9)
    figure.suptitle(f"Reliability, ECE {ece:.3f}", color=INK)
    lower.bar([(part.low + part.high) / 2 for part in bins], [part.images for part in bins], width, color=QUIET)
    lower.set_ylabel("images")
    lower.set_xlabel("confidence")
    lower.set_xlim(0, 1)
    return figure


def mistakes(found: Sequence[tuple[NDArray[np.uint8], str]], images: int) -> Figure:
    """A grid of wrong answers, each uint8[H, W, 3] with its caption."""
    columns = 4
    rows = max(1, -(-len(found) // columns))
    figure, axes = figure_of(1.9 * rows + 0.7, rows=rows, columns=columns)
    for place in axes:
        place.set_axis_off()
    for place, (image, caption) in zip(axes, found, strict=False):
        place.imshow(image, interpolation="nearest")
        place.set_title(caption, fontsize=9, color=RED)
    if found:
        figure.suptitle(f"Most confident mistakes on {images:,} images (true → answer)", color=INK)
    else:
        figure.suptitle(f"No mistakes on {images:,} images", color=INK)
    return figure


def _mistaken_images(version: DatasetVersion, predictions: Predictions) -> list[tuple[NDArray[np.uint8], str]]:
    arrays = open_arrays(version)
    rows = arrays.side(Side.FROZEN)
    row_of = dict(zip(np.asarray(arrays.ids[rows]).tolist(), rows.tolist(), strict=True))
    confidence = confidences(predictions.logits)
    answers = predictions.logits.argmax(axis=1)
    found = []
    for place in confident_mistakes(predictions.logits, predictions.labels, MISTAKES):
        true, answer = version.classes[predictions.labels[place]], version.classes[answers[place]]
        caption = f"{shown(true, 14)} →\n{shown(answer, 14)} {confidence[place]:.2f}"
        found.append((np.asarray(arrays.images[row_of[str(predictions.ids[place])]]), caption))
    return found


def shown(name: str, longest: int = 18) -> str:
    """A class name that fits; a dollar sign in it is no formula."""
    short = name if len(name) <= longest else name[: longest - 1] + "…"
    return short.replace("$", r"\$")


def figure_of(height: float, *, rows: int = 1, columns: int = 1, **grid: Any) -> tuple[Figure, list[Axes]]:
    """An empty one in the style of all, this many inches high."""
    figure = Figure(figsize=(WIDTH, height), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **grid).ravel().tolist()
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(colors=INK)
    return figure, axes


def save_figure(figure: Figure, path: Path) -> Path:
    """Write it whole or not at all; without the library's version in it, the same record gives the same bytes.

    Two runs may draw the same figure at once: each has a file of its own, and the last one stays.
    """
    work = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        figure.savefig(work, format="png", metadata={"Software": None})
        return work.replace(path)
    finally:
        work.unlink(missing_ok=True)

"""`make predict`: what the champion says about an image, or about every image in a folder.

`python -m tasks.predict --image FILE` prints its top 5; with `--images FOLDER` it writes
`models/<id>/predictions/<folder>.csv`.
"""

import argparse
import csv
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from flywheel.data.decode import UndecodableImage, decode
from flywheel.ledger import LedgerError, open_ledger
from flywheel.settings import Settings, keep_tools_at_home

if TYPE_CHECKING:  # torch stands behind it: a mistyped path should not wait for that
    from flywheel.model.inference import Classifier

TOP = 5
BATCH_IMAGES = 256


class PredictError(RuntimeError):
    """Nothing can be predicted; the message says why and what to do."""


@dataclass(frozen=True)
class FilePrediction:
    """What the model said about one file, or why it could not."""

    path: Path
    top: tuple[tuple[str, float], ...]  # (class, probability), best first; empty where the file could not be read
    error: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 1 with one sentence on stderr."""
    asked = _parse(arguments)
    if asked.url:
        return _ask_service(asked)
    settings = Settings()
    keep_tools_at_home(settings)
    try:
        if asked.image:
            _show(asked.image, _load(settings, asked.model, asked.task, needs=asked.image))
        else:
            _write(asked.images, _load(settings, asked.model, asked.task, needs=asked.images), settings)
    except PredictError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _ask_service(asked: argparse.Namespace) -> int:
    from tasks.client import ServiceError, classify

    if not asked.image or asked.model or asked.task:
        print("With URL= an IMAGE= is asked about, and the service says which model answers.", file=sys.stderr)  # noqa: T201
        return 1
    try:
        answer = classify(asked.image, asked.url, TOP)
    except ServiceError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    _print_scores(answer.top, f"{asked.image.name} · {answer.model_id}")
    print(f"prediction {answer.prediction_id}")  # noqa: T201
    return 0


def predict_files(files: Iterable[Path], classifier: "Classifier") -> Iterator[FilePrediction]:
    """One prediction a file, in order, `BATCH_IMAGES` at a time; a file that can't be read carries its error."""
    left = iter(files)
    while batch := list(itertools.islice(left, BATCH_IMAGES)):
        yield from _predict_batch(batch, classifier)


def image_files(folder: Path) -> list[Path]:
    """Every file under the folder, sorted; hidden files and folders are left out. Raises PredictError when none is."""
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        raise PredictError(f"{folder}: at least one image expected, no file found. Name another folder.")
    return files


def write_predictions(predictions: Iterable[FilePrediction], columns: int, file: TextIO) -> tuple[int, int]:
    """CSV: path, label, confidence, then the next classes, then the error. Returns (predicted, unreadable)."""
    writer = csv.writer(file)
    following = [f"{name}_{place}" for place in range(2, columns + 1) for name in ("label", "confidence")]
    writer.writerow(["path", "label", "confidence", *following, "error"])
    counts = [0, 0]
    for prediction in predictions:
        scores = [value for label, score in prediction.top for value in (label, f"{score:.6f}")]
        writer.writerow([prediction.path, *(scores or [""] * 2 * columns), prediction.error])
        counts[bool(prediction.error)] += 1
    return counts[0], counts[1]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tasks.predict", description="Ask the champion about images.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--image", "--IMAGE", type=Path, metavar="FILE", help="print the top 5 classes of this image")
    what.add_argument(
        "--images", "--IMAGES", type=Path, metavar="FOLDER", help="write a CSV of every image under this folder"
    )
    parser.add_argument(
        "--model", "--MODEL", default="", metavar="ID", help="a model by its id instead of the champion"
    )
    parser.add_argument(
        "--task", "--TASK", default="", metavar="ID", help="the champion of this task; the last promoted one's"
    )
    parser.add_argument("--url", "--URL", default="", metavar="URL", help="ask the service that answers there instead")
    return parser.parse_args(arguments)


def _load(settings: Settings, model_id: str, task_id: str, needs: Path) -> "Classifier":
    """The model asked for, after what costs nothing to check."""
    if not needs.exists():
        raise PredictError(f"{needs}: no such file or folder.")
    folder = settings.paths.model(model_id or _champion(settings, task_id))
    from flywheel.model.inference import ModelError, load_model

    try:
        return load_model(folder)
    except ModelError as error:
        raise PredictError(str(error)) from error


def _champion(settings: Settings, task_id: str) -> str:
    try:
        champion = open_ledger(settings, create=False).champion(task_id or None)
    except LedgerError:
        champion = None
    if champion is None:
        raise PredictError("No champion yet. Run 'make run' first, or name a model with MODEL=model-….")
    return champion.model_id


def _predict_batch(files: Sequence[Path], classifier: "Classifier") -> list[FilePrediction]:
    import numpy as np

    from flywheel.model.inference import softmax
    from flywheel.model.preprocessing import pack

    packed, errors = [], {}
    for file in files:
        try:
            packed.append(pack([decode(file.read_bytes())], classifier.model.preprocessing))
        except (UndecodableImage, OSError) as error:
            errors[file] = str(error)
    probabilities = softmax(classifier.predict_packed(np.concatenate(packed)).logits).tolist() if packed else []
    rows = iter(probabilities)
    return [
        FilePrediction(file, (), errors[file]) if file in errors else FilePrediction(file, _top(next(rows), classifier))
        for file in files
    ]


def _top(probabilities: Sequence[float], classifier: "Classifier") -> tuple[tuple[str, float], ...]:
    """The likeliest classes, best first; equal ones in the order of the class list."""
    pairs = zip(classifier.model.classes, (float(value) for value in probabilities), strict=True)
    return tuple(sorted(pairs, key=lambda pair: -pair[1])[:TOP])


def _show(image: Path, classifier: "Classifier") -> None:
    """A table on a terminal, plain lines anywhere else."""
    if image.is_dir():
        raise PredictError(f"{image} is a folder. Use IMAGES={image} for all images in it.")
    (prediction,) = predict_files([image], classifier)
    if prediction.error:
        raise PredictError(f"{image}: {prediction.error}")
    _print_scores(prediction.top, f"{image.name} · {classifier.model.id}")


def _print_scores(top: Sequence[tuple[str, float]], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        for label, score in top:
            console.print(f"{score:.4f}  {label}", markup=False, soft_wrap=True)
        return
    table = Table("class", "probability", "", title=title)
    for label, score in top:
        table.add_row(label, f"{score:.4f}", "█" * round(30 * score))
    console.print(table)


def _write(folder: Path, classifier: "Classifier", settings: Settings) -> None:
    if not folder.is_dir():
        raise PredictError(f"{folder} is no folder. Use IMAGE={folder} for one image.")
    files = image_files(folder)
    target = settings.paths.model(classifier.model.id) / "predictions" / f"{folder.resolve().name}.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".csv.part")
    columns = min(TOP, len(classifier.model.classes))
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        predicted, unreadable = write_predictions(predict_files(files, classifier), columns, file)
    unfinished.replace(target)
    print(f"{predicted:,} images predicted, {unreadable:,} files unreadable: {target}")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())

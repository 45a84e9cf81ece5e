"""An evaluation's folder, `reports/<eval id>/`: the answers by image id and, written last, its manifest."""

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError

from flywheel.evaluation.metrics import METRIC_SETTINGS, class_results
from flywheel.evaluation.statistics import wilson
from flywheel.identity import digest_of_file, name_of
from flywheel.paths import Paths
from flywheel.reasons import reason_of
from flywheel.records import ClassResult, Evaluation, Interval, from_json, to_json

MANIFEST = "evaluation.json"
PREDICTIONS = "logits.parquet"
AGAIN = "Delete the folder and evaluate again."


class EvaluationError(RuntimeError):
    """An evaluation that can't be made, or a record of one that can't be trusted."""


@dataclass(frozen=True)
class Predictions:
    """A model's answers on an evaluation set, sorted by image id: two models' rows on one set pair by position."""

    ids: NDArray[np.str_]  # str[N], the image ids
    labels: NDArray[np.int64]  # int64[N]
    logits: NDArray[np.float32]  # float32[N, C]

    def sorted(self) -> "Predictions":
        order = np.argsort(self.ids, kind="stable")
        return Predictions(self.ids[order], self.labels[order], self.logits[order])


def evaluation_id(model_id: str, evaluation_set_id: str) -> str:
    """The identity of a model's evaluation on a set, under this version's metric settings."""
    content = {"model": model_id, "evaluation_set": evaluation_set_id, "metrics": METRIC_SETTINGS}
    return name_of("eval", content)


def read_evaluation(folder: Path) -> Evaluation:
    """The evaluation that lies in a folder. Raises EvaluationError unless its manifest and predictions fit."""
    try:
        evaluation = from_json(Evaluation, (folder / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        raise EvaluationError(f"{folder}: no finished evaluation, {MANIFEST} is missing. Evaluate again.") from error
    except ValidationError as error:
        raise EvaluationError(f"{folder / MANIFEST}: not a readable manifest. {AGAIN}") from error
    check_predictions(folder, evaluation)
    _check_numbers(folder, evaluation)
    return replace(evaluation, folder=folder)


def what_changed(folder: Path) -> str:
    """Why the record that lies in a folder is no longer one to trust; empty where it is, or where none was finished."""
    if not any((folder / name).exists() for name in (MANIFEST, PREDICTIONS)):
        return ""
    try:
        read_evaluation(folder)
    except (EvaluationError, OSError) as error:
        return reason_of(error).removesuffix(AGAIN.rstrip(".")).strip().rstrip(".")
    return ""


def remade(models: Iterable[str | None], evaluation_set_id: str, paths: Paths) -> list[str]:
    """Of models' evaluations on a set: which were measured again because their record had been changed, in words."""
    found = []
    for model_id in dict.fromkeys(filter(None, models)):
        try:
            evaluation = read_evaluation(paths.report(evaluation_id(model_id, evaluation_set_id)))
        except (EvaluationError, OSError):
            continue
        found += [f"{evaluation.id} of {model_id}: {evaluation.remade}"] if evaluation.remade else []
    return found


def check_predictions(folder: Path, evaluation: Evaluation) -> None:
    """Raise EvaluationError unless the folder's answers are those that the evaluation was made of."""
    path = folder / PREDICTIONS
    found = digest_of_file(path) if path.is_file() else "no file"
    if found != evaluation.correct_sha256:
        raise EvaluationError(f"{path}: SHA-256 {evaluation.correct_sha256[:12]} expected, {found[:12]} found. {AGAIN}")


def _check_numbers(folder: Path, evaluation: Evaluation) -> None:
    """Raise EvaluationError unless the counts in the manifest, and the shares that gates read, are its answers'."""
    try:
        table = pq.read_table(folder / PREDICTIONS, columns=["label", "predicted"])
        labels, answers = (table[name].to_numpy().astype(np.int64) for name in ("label", "predicted"))
        size = len(evaluation.classes)
        matrix = np.bincount(labels * size + answers, minlength=size * size).reshape(size, size)
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise EvaluationError(
            f"{folder / PREDICTIONS}: the answers to {evaluation.images:,} images expected, not found. {AGAIN}"
        ) from error
    counted = wilson(int(matrix.trace()), len(labels))
    classes = class_results(matrix, tuple(each.label for each in evaluation.classes))
    same = (
        evaluation.images == len(labels)
        and np.array_equal(matrix, np.asarray(evaluation.confusion))
        and np.allclose(_shares(evaluation.top1, evaluation.classes), _shares(counted, classes))
    )
    if not same:
        raise EvaluationError(
            f"{folder / MANIFEST}: top-1 {counted} by the answers beside it expected, {evaluation.top1} or other "
            f"counts found. {AGAIN}"
        )


def _shares(top1: Interval, classes: tuple[ClassResult, ...]) -> list[float]:
    return [end for each in (top1, *(one.recall for one in classes)) for end in (each.value, each.low, each.high)]


def read_predictions(folder: Path) -> Predictions:
    """The per-image answers of an evaluation, sorted by image id. Raises EvaluationError where they are missing."""
    path = folder / PREDICTIONS
    if not path.is_file():
        raise EvaluationError(f"{path}: no per-image answers. Evaluate the model again.")
    table = pq.read_table(path)
    flat = table["logits"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return Predictions(
        ids=np.asarray(table["image_id"].to_pylist(), dtype=np.str_),
        labels=table["label"].to_numpy().astype(np.int64),
        logits=flat.astype(np.float32).reshape(table.num_rows, -1),
    )


def write_record(evaluation: Evaluation, predictions: Predictions) -> Evaluation:
    """Write a finished evaluation into its folder, all of it or nothing. Returns it with its predictions' hash."""
    evaluation.folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{evaluation.id}-", dir=evaluation.folder.parent))
    try:
        _write_predictions(work / PREDICTIONS, predictions.sorted())
        finished = replace(evaluation, correct_sha256=digest_of_file(work / PREDICTIONS))
        (work / MANIFEST).write_text(to_json(finished), encoding="utf-8")
        work.chmod(0o755)  # mkdtemp's 0700 would keep the report from a web server or a colleague
        return _settle(work, finished)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_predictions(path: Path, predictions: Predictions) -> None:
    logits = pa.FixedSizeListArray.from_arrays(
        pa.array(predictions.logits.astype(np.float32).ravel()), predictions.logits.shape[1]
    )
    columns = {
        "image_id": pa.array(predictions.ids.tolist()),
        "label": pa.array(predictions.labels.astype(np.int64)),
        "predicted": pa.array(predictions.logits.argmax(axis=1).astype(np.int64)),
        "logits": logits,
    }
    pq.write_table(pa.table(columns), path)


def _settle(work: Path, evaluation: Evaluation) -> Evaluation:
    """Rename the finished folder into place; where another process was first and its record holds, take that."""
    try:
        work.rename(evaluation.folder)
    except OSError:
        try:
            return read_evaluation(evaluation.folder)
        except EvaluationError:
            shutil.rmtree(evaluation.folder, ignore_errors=True)
            work.rename(evaluation.folder)
    return evaluation

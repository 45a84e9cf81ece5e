"""A model measured on the frozen side of a dataset version, once: what is recorded is not computed again."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flywheel.data.decode import decode
from flywheel.data.originals import original_bytes
from flywheel.data.versions import DatasetArrays, open_arrays
from flywheel.evaluation.metrics import measure
from flywheel.evaluation.record import (
    MANIFEST,
    EvaluationError,
    Predictions,
    evaluation_id,
    read_evaluation,
    what_changed,
    write_record,
)
from flywheel.paths import Paths
from flywheel.progress import Progress, silent
from flywheel.records import DatasetVersion, Evaluation, Side, TrainedModel

if TYPE_CHECKING:
    from flywheel.model.inference import Classifier

logger = logging.getLogger(__name__)

# Images that are read from the memory map at once: 100 MB at 224 pixels a side.
IMAGES_AT_ONCE = 512


def recorded_evaluation(
    model_id: str, version: DatasetVersion, paths: Paths, side: Side = Side.FROZEN
) -> Evaluation | None:
    """The model's valid evaluation on the version's frozen set, or on its drifted one, where there is one."""
    try:
        return read_evaluation(paths.report(evaluation_id(model_id, version.evaluation_set(side))))
    except EvaluationError as error:
        logger.debug("%s", error)
        return None


def evaluate(
    classifier: "Classifier",
    version: DatasetVersion,
    paths: Paths,
    *,
    progress: Progress = silent,
    clock: Callable[[], float] = time.perf_counter,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    distrusted: str = "",
    side: Side = Side.FROZEN,
) -> Evaluation:
    """Measure a classifier on the frozen side, or the drifted one, and leave the record in `reports/<eval id>/`.

    A valid record of the same model, set and metrics is returned without computing. One that was changed since it was
    written is measured again, and the new one tells so for good; so is one that is whole in itself, where
    `distrusted` says what speaks against it. Raises EvaluationError when the model doesn't fit the version, and
    MetricsError when the frozen side is empty or a logit isn't finite.
    """
    recorded = recorded_evaluation(classifier.model.id, version, paths, side)
    if recorded is not None and not distrusted:
        return recorded
    _check_task(classifier.model, version)
    folder = paths.report(evaluation_id(classifier.model.id, version.evaluation_set(side)))
    changed = distrusted or what_changed(folder)
    started = clock()
    predictions = _predict(classifier, version, side, paths, progress)
    seconds = max(clock() - started, 1e-9)
    evaluation = _summarise(classifier.model, version, side, paths, predictions, seconds)
    logger.info(
        "evaluated %s images: top-1 %s, ECE %.3f, %.0f images/s",
        f"{evaluation.images:,}",
        evaluation.top1,
        evaluation.ece,
        evaluation.images_per_second,
    )
    if changed:
        logger.warning("%s was changed after it was written, and is measured again: %s", evaluation.id, changed)
        evaluation = replace(
            evaluation, remade=f"changed on disk, measured again {now():%Y-%m-%d %H:%M} UTC ({changed})"
        )
    if distrusted:
        (folder / MANIFEST).unlink(missing_ok=True)  # so that the new record takes its place
    return write_record(evaluation, predictions)


def _check_task(model: TrainedModel, version: DatasetVersion) -> None:
    if model.classes != version.classes:
        raise EvaluationError(
            f"{model.id} answers with {len(model.classes)} classes, {version.id} has {len(version.classes)} or others: "
            "a model is measured on its own task's versions only."
        )


def _predict(
    classifier: "Classifier", version: DatasetVersion, side: Side, paths: Paths, progress: Progress
) -> Predictions:
    arrays = open_arrays(version)
    rows = arrays.side(side)
    if len(rows) == 0:
        raise EvaluationError(f"{version.id}: its {side} side is empty, nothing can be judged on it. Add images.")
    answer = _answerer(classifier, version, arrays, paths)
    logits = []
    for start in range(0, len(rows), IMAGES_AT_ONCE):
        part = rows[start : start + IMAGES_AT_ONCE]
        logits.append(answer(part))
        progress("evaluate", start + len(part), len(rows))
    return Predictions(np.asarray(arrays.ids[rows], dtype=np.str_), arrays.labels[rows], np.concatenate(logits))


def _answerer(
    classifier: "Classifier", version: DatasetVersion, arrays: DatasetArrays, paths: Paths
) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
    """Row positions → logits. A model of another size or filter (an older champion) gets the original images."""
    ours = classifier.model.preprocessing
    if (ours.size, ours.filter) == (version.size, version.filter):
        return lambda rows: classifier.predict_packed(np.asarray(arrays.images[rows])).logits
    return lambda rows: classifier.classify([decode(original_bytes(paths, str(i))) for i in arrays.ids[rows]]).logits


def _summarise(
    model: TrainedModel, version: DatasetVersion, side: Side, paths: Paths, predictions: Predictions, seconds: float
) -> Evaluation:
    measured = measure(predictions.logits, predictions.labels, version.classes)
    identity = evaluation_id(model.id, version.evaluation_set(side))
    return Evaluation(
        id=identity,
        folder=paths.report(identity),
        model_id=model.id,
        dataset_id=version.id,
        evaluation_set_id=version.evaluation_set(side),
        role=side.value,
        images=measured.images,
        top1=measured.top1,
        majority_rate=measured.majority_rate,
        classes=measured.classes,
        confusion=measured.confusion,
        ece=measured.ece,
        nll=measured.nll,
        images_per_second=measured.images / seconds,
    )

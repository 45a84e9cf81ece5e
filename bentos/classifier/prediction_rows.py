"""From a batch as it was answered to the rows of the prediction log: measured, projected, identified."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from bentos.classifier.bundle import Bundle
from bentos.classifier.predictor import Answered, Seen
from flywheel.data.decode import image_id
from flywheel.data.measurements import STATISTICS, statistics
from flywheel.ledger.predictions import PredictionRow
from flywheel.model.inference import softmax

log = logging.getLogger(__name__)

MEASURED_TOGETHER = 64  # small images of that many stay in a core's cache
NO_PIXELS: NDArray[np.uint8] = np.zeros((0, 0, 3), np.uint8)


def measure(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """float32[N, 7]. Those of one shape together: a call on many images costs hardly more than one on few."""
    by_shape: dict[Any, list[int]] = {}
    for row, image in enumerate(images):
        by_shape.setdefault(image.shape, []).append(row)
    found = np.empty((len(images), len(STATISTICS)), np.float32)
    for alike in by_shape.values():
        for first in range(0, len(alike), MEASURED_TOGETHER):
            rows = alike[first : first + MEASURED_TOGETHER]
            found[rows] = statistics(np.stack([images[row] for row in rows]))
    return found


def identities(answered: Answered) -> list[str]:
    """The id of every image."""
    return [each.image_id or image_id(each.pixels) for each in answered.seen]


def stripped(answered: Answered) -> Answered:
    """Identified, and without pixels and files: what is left is a few kilobytes an image."""
    seen = [
        replace(each, ask=replace(each.ask, content=b""), pixels=NO_PIXELS, image_id=identity)
        for each, identity in zip(answered.seen, identities(answered), strict=True)
    ]
    return replace(answered, seen=seen)


def rows_of(
    answered: Answered, images: Sequence[str], measured: NDArray[np.float32], kept: Sequence[bool]
) -> list[PredictionRow]:
    """The answers of a batch, given the ids of its images; behind them the shadow's, under ids of its own."""
    rows = _rows(answered, answered.bundle, answered.probabilities, answered.embeddings, images, measured, kept)
    if answered.shadow is None:
        return rows
    chosen = [row for row, each in enumerate(answered.seen) if each.for_shadow is not None]
    packed = [each.for_shadow for each in answered.seen if each.for_shadow is not None]
    try:
        outputs = answered.shadow.classifier.predict_packed(np.concatenate(packed))
    except Exception:  # whatever a model on trial does: what the champion answered is recorded
        log.exception("%s failed on %d images in the champion's shadow", answered.shadow.about.model_id, len(chosen))
        return rows
    looked_at = replace(answered, seen=[answered.seen[row] for row in chosen])
    probabilities, of_these = softmax(outputs.logits), ([images[row] for row in chosen], measured[chosen])
    beside = _rows(
        looked_at, answered.shadow, probabilities, outputs.embeddings, *of_these, [kept[row] for row in chosen]
    )
    return rows + [row._replace(id=shadow_id(row.id)) for row in beside]


def shadow_id(prediction_id: str) -> str:
    """The id of a shadow's prediction: that of the answer which the client got, with its last bit turned, so that the
    two can be paired."""
    return str(UUID(int=UUID(prediction_id).int ^ 1))


def _rows(
    answered: Answered,
    bundle: Bundle,
    probabilities: NDArray[np.float32],
    embeddings: NDArray[np.float32],
    images: Sequence[str],
    measured: NDArray[np.float32],
    kept: Sequence[bool],
) -> list[PredictionRow]:
    projected = bundle.projection.apply(embeddings).astype(np.float16)
    predicted = probabilities.argmax(1).tolist()
    return [
        PredictionRow(
            each.ask.id,
            answered.at,
            bundle.serving.id,
            predicted[row],
            probabilities[row].tobytes(),
            projected[row].tobytes(),
            measured[row].tobytes(),
            images[row],
            each.header.format,
            each.header.width,
            each.header.height,
            each.size,
            each.ask.client,
            kept[row],
        )
        for row, each in enumerate(answered.seen)
    ]


def file_of(seen: Seen) -> bytes:
    """What was sent; an array as a lossless file."""
    if isinstance(seen.ask.content, bytes):
        return seen.ask.content
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.fromarray(seen.ask.content).save(file, "PNG")
    return file.getvalue()

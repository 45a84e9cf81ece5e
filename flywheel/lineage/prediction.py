"""The way of a prediction: back over its model to the source, and to what was said of it since."""

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np

from flywheel.data.decode import UndecodableImage, decode, image_id
from flywheel.ledger import Champion, Ledger
from flywheel.ledger.predictions import Logged, PredictionLog, Serving
from flywheel.lineage.model import champion_node, explain_model
from flywheel.lineage.node import Check, LineageError, Node, State
from flywheel.model.folder import ModelError, read_model
from flywheel.paths import Paths

NOT_CHAINED = Check(State.UNCHECKED, "the prediction log keeps no hash of its rows")


def explain_prediction(prediction_id: str, ledger: Ledger, predictions: PredictionLog, paths: Paths) -> Node:
    """Who answered, by which release, what that model came from; its image and its labels. Raises LineageError."""
    logged = predictions.find(prediction_id)
    if logged is None:
        raise LineageError(
            f"{prediction_id}: no such prediction on record. Name the prediction_id of an answer; a service that was "
            "started without FLYWHEEL_HOME keeps a log of its own."
        )
    serving = logged.serving
    children = [
        _image(logged, paths),
        *_labels(prediction_id, predictions),
        *_release(serving, ledger),
        explain_model(serving.model_id, ledger, paths),
    ]
    at = datetime.fromtimestamp(logged.row.at / 1e6, UTC)
    told = f"{_answer(logged, paths)} at {at:%Y-%m-%d %H:%M:%S} UTC, by {serving.model_id} as {serving.role}"
    return Node("", "prediction", prediction_id, told, NOT_CHAINED, tuple(children))


def _answer(logged: Logged, paths: Paths) -> str:
    confidence = float(np.frombuffer(logged.row.probabilities, np.float32)[logged.row.predicted])
    try:
        label = read_model(paths.model(logged.serving.model_id)).classes[logged.row.predicted]
    except ModelError:
        label = f"class {logged.row.predicted}"
    return f"{label} {confidence:.3f}"


def _image(logged: Logged, paths: Paths) -> Node:
    row = logged.row
    told = f"{row.format}, {row.width} × {row.height}, {row.bytes:,} bytes"
    kept = paths.predicted_image(row.image_id)
    check = Check(State.UNCHECKED, "its bytes were not kept, or have been removed since")
    if row.kept and kept.is_file():
        try:
            same = image_id(decode(kept.read_bytes())) == row.image_id
        except (UndecodableImage, OSError):
            same = False
        check = Check(State.WHOLE, "its pixels") if same else Check(State.CHANGED, f"{kept} holds another image")
    return Node("of", "image", row.image_id[:12], told, check)


def _labels(prediction_id: str, predictions: PredictionLog) -> Iterator[Node]:
    for label in predictions.labels_of(prediction_id):
        told = f"{label.label}, {label.at:%Y-%m-%d %H:%M} UTC"
        yield Node("labelled by", "source", label.source, told, NOT_CHAINED)


def _release(serving: Serving, ledger: Ledger) -> Iterator[Node]:
    """The time as champion in which it answered; a Bento's own model and one on trial have none."""
    crowned: list[Champion] = [each for each in ledger.history() if each.decision_id == serving.release_id]
    for champion in crowned:
        yield champion_node(champion, ledger)
    told = f"since {serving.since:%Y-%m-%d %H:%M:%S} UTC, in {serving.worker}"
    yield Node("answered from", "Bento", serving.bento_tag or "none", told, NOT_CHAINED)

"""How a worker comes to its model, its log and its champion. This module imports torch: workers only."""

import logging
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bentos.classifier.answers import ServedModel
from bentos.classifier.batcher import MicroBatcher
from bentos.classifier.bundle import Standing, load_bundle
from bentos.classifier.feedback import Feedbacks
from bentos.classifier.kept_images import KeptImages
from bentos.classifier.log_notes import LogNotes
from bentos.classifier.metrics import Metrics
from bentos.classifier.prediction_id import PredictionIds
from bentos.classifier.prediction_log import Keeping, PredictionLogger
from bentos.classifier.predictor import Answered, Predictor
from bentos.classifier.settings import ServiceSettings
from bentos.classifier.spool import Spool
from bentos.classifier.watch import Watch, new_serving
from bentos.classifier.worker import Worker
from flywheel.ledger import open_ledger
from flywheel.ledger.database import database_url, shown
from flywheel.ledger.predictions import PredictionLog, open_predictions
from flywheel.model.folder import read_model
from flywheel.settings import Settings

log = logging.getLogger(__name__)


def start_worker(
    folder: Path,
    tag: str,
    labels: Mapping[str, str],
    measured: Mapping[str, Any],
    settings: ServiceSettings,
    metrics: Metrics,
    shared: Path,
) -> Worker:
    """A worker with the model of its own Bento, or with the ledger's champion where one is followed. `shared`
    is the folder of the service's workers.

    Raises ModelError where the Bento's own model is damaged or answers otherwise than when it was trained.
    """
    model = read_model(folder)
    serving = new_serving(model.task_id, model.id, tag)
    own = load_bundle(folder, serving, ServedModel.of(model, labels, measured, tag))
    predictor = Predictor(Standing(own), settings.most_pixels, partial(_count, metrics))
    batcher = MicroBatcher(predictor.predict, settings.largest_batch, settings.longest_queue)
    if not settings.log:
        return Worker(predictor, batcher, PredictionIds())
    place = log_settings()
    opener = partial(open_predictions, place, hasty=True)
    images = KeptImages(place.paths, settings.most_kept, lambda: _waited_for(opener))
    keeping = Keeping(images, settings.kept_share, settings.ask_below, settings.most_asked)
    logger = PredictionLogger(opener, Spool(place.paths.spool), keeping, metrics.dropped.inc)
    predictor.record = partial(_count_and_log, metrics, logger)
    notes = LogNotes(shared, lambda: logger.state)
    metrics.watch_log(partial(_noted, notes))
    feedbacks = Feedbacks(opener, images, model.task_id, model.classes, logger.flush)
    watch = None
    if settings.follow and has_home():
        ledger = partial(open_ledger, place, serving=True)
        watch = Watch(predictor, place.paths, ledger, opener, logger.enter, metrics.swaps.inc)
        watch.look()
        watch.start()
    url = shown(database_url(place.ledger_url))
    log.info("predictions go to %s; %s", url, "the ledger's champion answers" if watch else "the Bento's model answers")
    return Worker(predictor, batcher, PredictionIds(), logger, url, feedbacks, watch, notes)


def _noted(notes: LogNotes) -> tuple[int, int]:
    """Once a second: the metrics' thread asks."""
    state = notes.note()
    return state.waiting, state.spooled


def _count(metrics: Metrics, answered: Answered) -> None:
    serving, classes = answered.bundle.serving, answered.bundle.classifier.model.classes
    labels = [classes[place] for place in answered.probabilities.argmax(1).tolist()]
    metrics.predicted(serving.model_id, serving.role.value, labels)


def _count_and_log(metrics: Metrics, logger: PredictionLogger, answered: Answered) -> None:
    logger.record(answered)
    _count(metrics, answered)


def has_home() -> bool:
    """Whether models of other Bentos can be found."""
    return bool(os.environ.get("FLYWHEEL_HOME"))


def log_settings() -> Settings:
    """Where the log lies: as the environment says, else in the user's own state folder, as a Bento runs anywhere."""
    if has_home():
        return Settings()
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Settings(home=Path(state) / "flywheel")


def _waited_for(opener: partial[PredictionLog]) -> set[str]:
    predictions = opener()
    try:
        return predictions.images_to_keep()
    finally:
        predictions.close()

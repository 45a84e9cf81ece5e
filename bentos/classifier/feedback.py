"""True labels that come in, and the images whose label is asked for."""

import logging
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from sqlalchemy.exc import SQLAlchemyError

from bentos.classifier.answers import UUID7, AskedImage, Feedback, FeedbackTaken, LabelQueue
from bentos.classifier.errors import ErrorAnswer, Refusal
from bentos.classifier.kept_images import KeptImages
from flywheel.ledger import LedgerError
from flywheel.ledger.predictions import LabelRequest, Logged, PredictionLog

log = logging.getLogger(__name__)

FRESH_SECONDS = 10.0  # so young a prediction may still be on its way into the log
CLOCKS_APART_SECONDS = 2.0  # of two machines; an id from further ahead is nobody's
WAIT_SECONDS = 1.0
POLL_SECONDS = 0.05
MOST_LISTED = 1000
REFUSALS: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorAnswer, "description": "No such prediction, or no bytes of it"},
    422: {"model": ErrorAnswer, "description": "Not one of the model's classes, or malformed"},
    503: {"model": ErrorAnswer, "description": "The prediction log can't be reached"},
}
MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "pixels": "image/png",
}


class Feedbacks:
    """The prediction log as the routes need it. Every method blocks, so the routes call it on a thread."""

    def __init__(
        self,
        opener: Callable[[], PredictionLog],
        images: KeptImages,
        task_id: str,
        classes: tuple[str, ...],
        flush: Callable[[float], bool],
    ) -> None:
        self._opener = opener
        self._log: PredictionLog | None = None
        self._images = images
        self._task_id = task_id
        self._classes = classes  # of every model of the task
        self._flush = flush

    def take(self, feedback: Feedback, client: str) -> FeedbackTaken:
        """Append the label, on disk before the answer. Raises Refusal."""
        logged = self._find(feedback.prediction_id)
        if feedback.label not in self._classes:
            shown = ", ".join(self._classes[:20]) + (" …" if len(self._classes) > 20 else "")
            message = f"'{feedback.label[:100]}' is none of the model's {len(self._classes)} classes."
            raise Refusal(422, "unknown_class", message, f"Send one of: {shown}.")
        label = self._asked_of(
            lambda found: found.add_label(feedback.prediction_id, feedback.label, source=feedback.source, client=client)
        )
        predicted = self._classes[logged.row.predicted]
        return FeedbackTaken(
            prediction_id=label.prediction_id, label=label.label, predicted=predicted, position=label.position
        )

    def queue(self, limit: int) -> LabelQueue:
        asked, count = self._asked_of(
            lambda found: (found.asked(self._task_id, limit), found.count_asked(self._task_id))
        )
        return LabelQueue(images=[self._shown(each) for each in asked], open=count)

    def image(self, prediction_id: str) -> tuple[bytes, str]:
        """The bytes of a prediction's image, and their type. Raises Refusal."""
        logged = self._find(prediction_id)
        data = self._images.read(logged.row.image_id) if logged.row.kept else None
        if data is None:
            hint = "A sample of all images is kept, and those whose label is asked for until it came."
            raise Refusal(404, "image_not_kept", f"The image of {prediction_id} is not kept.", hint)
        return data, MEDIA_TYPES.get(logged.row.format, "application/octet-stream")

    def _find(self, prediction_id: str) -> Logged:
        """A fresh one is waited for: it may be on its way, perhaps from another worker."""
        fresh = -CLOCKS_APART_SECONDS < _age(prediction_id) < FRESH_SECONDS
        deadline = time.monotonic() + (WAIT_SECONDS if fresh else 0)
        found: Logged | None = self._asked_of(lambda log: log.find(prediction_id))
        while found is None and time.monotonic() < deadline:
            self._flush(POLL_SECONDS)
            time.sleep(POLL_SECONDS)
            found = self._asked_of(lambda log: log.find(prediction_id))
        if found is None or found.serving.task_id != self._task_id:
            hint = "Send the prediction_id of an answer of this service."
            raise Refusal(404, "unknown_prediction", f"No prediction {prediction_id} is on record.", hint)
        return found

    def _asked_of(self, question: Callable[[PredictionLog], Any]) -> Any:
        try:
            self._log = self._log or self._opener()
            return question(self._log)
        except (SQLAlchemyError, LedgerError, OSError) as error:
            log.warning("the prediction log can't be reached: %s", " ".join(str(error).split())[:300])
            if self._log is not None:
                self._log.close()
            self._log = None
            hint = "Nothing was recorded. Try again after the seconds in Retry-After."
            message = "The prediction log can't be reached."
            raise Refusal(503, "log_unreachable", message, hint, {"Retry-After": "5"}) from error

    def _shown(self, asked: LabelRequest) -> AskedImage:
        kept = asked.kept and self._images.path(asked.image_id).exists()
        return AskedImage(
            prediction_id=asked.prediction_id,
            reason=asked.reason,
            asked_at=asked.at,
            predicted=self._classes[asked.predicted],
            image=f"/queue/{asked.prediction_id}/image" if kept else None,
        )


def add_feedback_routes(app: FastAPI, feedbacks: Callable[[], Feedbacks | None]) -> None:
    """`/feedback` and `/queue`; where nothing is logged they say so."""

    def there() -> Feedbacks:
        found = feedbacks()
        if found is None:
            hint = "Start the service with FLYWHEEL_SERVICE_LOG=true."
            raise Refusal(503, "nothing_is_logged", "This service keeps no prediction log.", hint)
        return found

    @app.post("/feedback", response_model=FeedbackTaken, responses=REFUSALS)
    async def feedback(request: Request, body: Feedback) -> FeedbackTaken:
        """Say what is really on the image of a prediction. Several may; the last one counts."""
        client = str(getattr(request.state, "client", ""))
        return await run_in_threadpool(there().take, body, client)

    @app.get("/queue", response_model=LabelQueue, responses={503: REFUSALS[503]})
    async def queue(
        limit: int = Query(default=100, ge=1, le=MOST_LISTED, description="At most so many."),
    ) -> LabelQueue:
        """The images whose label is asked for, the oldest request first."""
        return await run_in_threadpool(there().queue, limit)

    @app.get(
        "/queue/{prediction_id}/image",
        response_class=Response,
        responses={
            **REFUSALS,
            200: {"content": {"image/*": {}}, "description": "The image's bytes, as they were sent"},
        },
    )
    async def image(prediction_id: str) -> Response:
        """The image of a prediction."""
        data, kind = await run_in_threadpool(there().image, _checked_id(prediction_id))
        # whatever a client sent is shown by no browser as anything but an image
        return Response(data, media_type=kind, headers={"X-Content-Type-Options": "nosniff"})


def _checked_id(prediction_id: str) -> str:
    if not re.match(UUID7, prediction_id):
        raise Refusal(422, "invalid_parameter", f"'{prediction_id[:50]}' is no prediction's id.", "Send a UUIDv7.")
    return prediction_id


def _age(prediction_id: str) -> float:
    """Seconds since the prediction was asked for, as its id says."""
    return datetime.now(UTC).timestamp() - (UUID(prediction_id).int >> 80) / 1000

"""From a request to its answer: what `/classify` and `/classify_batch` do, whoever calls them."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from bentos.classifier import uploads
from bentos.classifier.ask import Ask
from bentos.classifier.batcher import QueueFullError
from bentos.classifier.errors import Refusal
from bentos.classifier.settings import ServiceSettings
from bentos.classifier.worker import Worker

if TYPE_CHECKING:  # torch stands behind it, and the process that only starts workers does without
    from bentos.classifier.predictor import Prediction

DIGITS = 6  # of a probability in an answer


class Classifying:
    """`worker()` is asked at each request: it is bound when its process has loaded the model."""

    def __init__(self, worker: Callable[[], Worker], settings: ServiceSettings) -> None:
        self.worker = worker
        self.settings = settings

    async def one(self, request: Request, top_k: int | None = None, logits: bool = False) -> Response:
        """The answer for one image. Raises Refusal."""
        started = time.perf_counter()
        image = await uploads.one_image(request)
        prediction = await self._submit([image], request)[0]
        return _json(_answer(prediction, top_k or self.settings.top_k, logits, started))

    async def many(self, request: Request, top_k: int | None = None, logits: bool = False) -> Response:
        """The answers for several, in their order; one that can't be read fails alone. Raises Refusal."""
        started = time.perf_counter()
        images = await uploads.many_images(request, self.settings)
        outcomes = await asyncio.gather(*self._submit(images, request), return_exceptions=True)
        results = [_batch_result(outcome, top_k or self.settings.top_k, logits, started) for outcome in outcomes]
        failed = sum(isinstance(outcome, BaseException) for outcome in outcomes)
        return _json({"results": results, "failed": failed, "latency_ms": _milliseconds_since(started)})

    def _submit(
        self, images: Sequence[bytes | NDArray[np.uint8]], request: Request
    ) -> "list[asyncio.Future[Prediction]]":
        worker = self.worker()
        client = str(request.scope.get("state", {}).get("client", ""))
        try:
            return worker.batcher.submit([Ask(str(worker.ids.next()), image, client) for image in images])
        except QueueFullError as error:
            hint = "Try again after the seconds in Retry-After; start more workers if it stays."
            raise Refusal(503, "overloaded", f"Too many images wait: {error}.", hint, {"Retry-After": "1"}) from error


def _json(answer: dict[str, Any]) -> Response:
    return Response(to_json(answer), media_type="application/json")


def _answer(prediction: "Prediction", top_k: int, logits: bool, started: float) -> dict[str, Any]:
    scores = [{"label": label, "confidence": round(value, DIGITS)} for label, value in prediction.top(top_k)]
    answer = {
        "prediction_id": prediction.id,
        **scores[0],
        "top_k": scores,
        "model_id": prediction.model_id,
        "latency_ms": _milliseconds_since(started),
    }
    if logits:
        answer["logits"] = dict(zip(prediction.classes, prediction.logits.tolist(), strict=True))
    return answer


def _batch_result(outcome: Any, top_k: int, logits: bool, started: float) -> dict[str, Any]:
    if isinstance(outcome, Refusal):
        return outcome.body
    if isinstance(outcome, BaseException):
        raise outcome
    return _answer(outcome, top_k, logits, started)


def _milliseconds_since(started: float) -> float:
    return round(1000 * (time.perf_counter() - started), 3)

"""The routes. Each worker binds its own model and batcher to them when it starts."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse
from numpy.typing import NDArray

from bentos.classifier import uploads
from bentos.classifier.answers import BatchClassification, Classification, ServedModel
from bentos.classifier.ask import Ask
from bentos.classifier.batcher import QueueFullError
from bentos.classifier.errors import ErrorAnswer, Refusal, answer_errors_in_one_shape
from bentos.classifier.feedback import add_feedback_routes
from bentos.classifier.settings import ServiceSettings
from bentos.classifier.worker import Worker

if TYPE_CHECKING:  # torch stands behind it, and the process that only starts workers does without
    from bentos.classifier.predictor import Prediction

DIGITS = 6  # of a probability in an answer
REFUSALS = {400: "Empty or malformed", 413: "Too large", 415: "Not an image", 422: "Unreadable", 503: "Overloaded"}
AT_THE_BORDER = {401: "No known key", 403: "The key has no such scope, or none is set", 413: "Too large"}
AT_THE_BORDER |= {429: "Asked too often; Retry-After says when to ask again"}  # of every route, by the middleware
BINARY = {"type": "string", "format": "binary"}

TopK = Annotated[int | None, Query(ge=1, le=100_000, description="How many classes to answer; all, where fewer.")]
Logits = Annotated[bool, Query(description="Whether to answer the calibrated logits of all classes too, unrounded.")]


def make_app(worker: Callable[[], Worker], settings: ServiceSettings) -> FastAPI:
    """The app, made at import; `worker()` is asked at each request, so the app can stand before its model does."""
    app = FastAPI(
        title="flywheel classifier",
        version="1",
        description=_description(settings),
        responses=_documented(AT_THE_BORDER),
    )
    answer_errors_in_one_shape(app)
    refusals = _documented(REFUSALS)

    @app.post("/classify", response_model=Classification, responses=refusals, openapi_extra=_one_image_body())
    async def classify(request: Request, top_k: TopK = None, logits: Logits = False) -> JSONResponse:
        """Classify one image: multipart field `image`, or the image itself as the body."""
        started = time.perf_counter()
        image = await uploads.one_image(request)
        serving = worker()
        (prediction,) = await asyncio.gather(*_submit(serving, [image], request))
        return JSONResponse(_answer(prediction, top_k or settings.top_k, logits, started))

    @app.post("/classify_batch", response_model=BatchClassification, responses=refusals, openapi_extra=_batch_body())
    async def classify_batch(request: Request, top_k: TopK = None, logits: Logits = False) -> JSONResponse:
        """Classify several images, each a multipart field `images`, or pixels as one .npy array; one that can't be read
        fails alone."""
        started = time.perf_counter()
        images = await uploads.many_images(request, settings)
        serving = worker()
        outcomes = await asyncio.gather(*_submit(serving, images, request), return_exceptions=True)
        results = [_batch_result(outcome, top_k or settings.top_k, logits, started) for outcome in outcomes]
        failed = sum(isinstance(outcome, BaseException) for outcome in outcomes)
        return JSONResponse({"results": results, "failed": failed, "latency_ms": _milliseconds_since(started)})

    @app.get("/model", response_model=ServedModel)
    async def model() -> ServedModel:
        """The model that answers, its classes and its identities."""
        return worker().about

    add_feedback_routes(app, lambda: worker().feedbacks)

    @app.get("/", include_in_schema=False)
    async def front_door() -> RedirectResponse:
        return RedirectResponse("/docs")

    return app


def _submit(
    serving: Worker, images: Sequence[bytes | NDArray[np.uint8]], request: Request
) -> "list[asyncio.Future[Prediction]]":
    client = str(getattr(request.state, "client", ""))
    try:
        return serving.batcher.submit([Ask(str(serving.ids.next()), image, client) for image in images])
    except QueueFullError as error:
        hint = "Try again after the seconds in Retry-After; start more workers if it stays."
        raise Refusal(503, "overloaded", f"Too many images wait: {error}.", hint, {"Retry-After": "1"}) from error


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


def _documented(refusals: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": ErrorAnswer, "description": text} for status, text in refusals.items()}


def _description(settings: ServiceSettings) -> str:
    return (
        f"Limits: {settings.largest_body:,} bytes a request, {settings.most_pixels:,} pixels an image, "
        f"{settings.most_images} images and {settings.most_pixels_together:,} pixels a batch. Every refusal is "
        '`{"error": {"code", "message", "hint"}}`; 429 and 503 carry `Retry-After`.'
    )


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}


def _form(field: str, kind: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": {field: kind}, "required": [field]}
    return {uploads.MULTIPART: {"schema": schema}}


def _one_image_body() -> dict[str, Any]:
    raw = {kind: {"schema": BINARY} for kind in ("image/jpeg", "image/png", "image/webp")}
    coded = {"type": "object", "properties": {"image": {"type": "string", "format": "byte"}}, "required": ["image"]}
    return _body({**_form("image", BINARY), **raw, uploads.JSON: {"schema": coded}})


def _batch_body() -> dict[str, Any]:
    npy = {kind: {"schema": BINARY} for kind in uploads.NPY}
    return _body({**_form("images", {"type": "array", "items": BINARY, "minItems": 1}), **npy})

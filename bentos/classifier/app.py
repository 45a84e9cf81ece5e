"""The routes, as FastAPI tells of them. Each worker binds its own model and batcher to them when it starts."""

from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import RedirectResponse
from starlette.responses import Response

from bentos.classifier import uploads
from bentos.classifier.answers import BatchClassification, Classification, ServedModel
from bentos.classifier.classifying import Classifying
from bentos.classifier.docs_page import add_docs_page
from bentos.classifier.errors import ErrorAnswer, answer_errors_in_one_shape
from bentos.classifier.feedback import add_feedback_routes
from bentos.classifier.settings import ServiceSettings

REFUSALS = {400: "Empty or malformed", 413: "Too large", 415: "Not an image", 422: "Unreadable", 503: "Overloaded"}
AT_THE_BORDER = {401: "No known key", 403: "The key has no such scope, or none is set", 413: "Too large"}
AT_THE_BORDER |= {429: "Asked too often; Retry-After says when to ask again"}  # of every route, by the middleware
BINARY = {"type": "string", "format": "binary"}

TopK = Annotated[int | None, Query(ge=1, le=100_000, description="How many classes to answer; all, where fewer.")]
Logits = Annotated[bool, Query(description="Whether to answer the calibrated logits of all classes too, unrounded.")]


def make_app(classifying: Classifying) -> FastAPI:
    """The app, made at import: it can stand before its model does."""
    worker, settings = classifying.worker, classifying.settings
    app = FastAPI(
        title="flywheel classifier",
        version="1",
        description=_description(settings),
        responses=_documented(AT_THE_BORDER),
        docs_url=None,  # its pages take their scripts from a CDN
        redoc_url=None,
    )
    add_docs_page(app)
    answer_errors_in_one_shape(app)
    refusals = _documented(REFUSALS)

    @app.post("/classify", response_model=Classification, responses=refusals, openapi_extra=_one_image_body())
    async def classify(request: Request, top_k: TopK = None, logits: Logits = False) -> Response:
        """Classify one image: multipart field `image`, or the image itself as the body."""
        return await classifying.one(request, top_k, logits)

    @app.post("/classify_batch", response_model=BatchClassification, responses=refusals, openapi_extra=_batch_body())
    async def classify_batch(request: Request, top_k: TopK = None, logits: Logits = False) -> Response:
        """Classify several images, each a multipart field `images`, or pixels as one .npy array; one that can't be read
        fails alone."""
        return await classifying.many(request, top_k, logits)

    @app.get("/model", response_model=ServedModel)
    async def model() -> ServedModel:
        """The model that answers, its classes and its identities."""
        return worker().about

    add_feedback_routes(app, lambda: worker().feedbacks)

    @app.get("/", include_in_schema=False)
    async def front_door() -> RedirectResponse:
        return RedirectResponse("/docs")

    return app


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

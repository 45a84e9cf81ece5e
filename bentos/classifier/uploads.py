"""What a client sent, turned into the bytes of images or refused with the reason."""

import asyncio
import base64
import json

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from bentos.classifier.errors import Refusal
from bentos.classifier.forms import FormError, TooManyFilesError, parts_of
from bentos.classifier.image_header import check_together
from bentos.classifier.pixels import images_of_npy
from bentos.classifier.settings import ServiceSettings

ONE_IMAGE_HINT = (
    "Send multipart/form-data with the file in field 'image', the image as the body with its image/… type, or JSON "
    '{"image": "<base64>"}.'
)
MANY_IMAGES_HINT = (
    "Send multipart/form-data with one file in each field 'images', or uint8[N, H, W, 3] as application/x-npy."
)
JSON = "application/json"
NPY = ("application/x-npy", "application/octet-stream")
RAW_TYPES = ("image/", "application/octet-stream")
MULTIPART = "multipart/form-data"
LARGE_FORM = 2**20  # bytes; one that large is read beside the event loop
MOST_TEXT_FIELDS = 16  # none is used; clients add some


async def one_image(request: Request) -> bytes:
    """The image of `/classify`: the multipart field `image`, or the body. Raises Refusal."""
    kind = _content_type(request)
    if kind.startswith(RAW_TYPES):
        return await request.body()
    if kind == MULTIPART:
        return (await _files(request, "image", 1, ONE_IMAGE_HINT))[0]
    if kind == JSON:
        return _of_json(await request.body())
    raise _unsupported(kind, ONE_IMAGE_HINT)


async def many_images(request: Request, settings: ServiceSettings) -> list[bytes] | list[NDArray[np.uint8]]:
    """The images of `/classify_batch`, in the order sent: files or pixels. Raises Refusal."""
    kind = _content_type(request)
    if kind == MULTIPART:
        files = await _files(request, "images", settings.most_images, MANY_IMAGES_HINT)
        await asyncio.to_thread(check_together, files, settings.most_pixels, settings.most_pixels_together)
        return files
    if kind in NPY:
        limits = (settings.most_images, settings.most_pixels, settings.most_pixels_together)
        return images_of_npy(await request.body(), *limits)
    raise _unsupported(kind, MANY_IMAGES_HINT)


def _of_json(body: bytes) -> bytes:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(422, "malformed_json", "The body is no JSON.", ONE_IMAGE_HINT) from None
    text = document.get("image") if isinstance(document, dict) else None
    if not isinstance(text, str):
        message = "A JSON object with the text 'image' is expected."
        raise Refusal(422, "missing_field", message, ONE_IMAGE_HINT)
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise Refusal(422, "malformed_base64", "Field 'image' is no base64.", ONE_IMAGE_HINT) from None


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _unsupported(kind: str, hint: str) -> Refusal:
    return Refusal(415, "unsupported_media_type", f"The Content-Type is {kind[:100] or 'missing'}.", hint)


async def _files(request: Request, field: str, most: int, hint: str) -> list[bytes]:
    """The files of one multipart field."""
    body, kind = await request.body(), request.headers["content-type"]
    try:
        if len(body) < LARGE_FORM:
            parts = parts_of(body, kind, most, MOST_TEXT_FIELDS)
        else:
            parts = await asyncio.to_thread(parts_of, body, kind, most, MOST_TEXT_FIELDS)
    except TooManyFilesError as error:
        hint = f"{hint} At most {most}."
        raise Refusal(413, "too_many_images", f"More than {most} files in one request.", hint) from error
    except FormError as error:
        raise Refusal(400, "malformed_multipart", str(error), hint) from error
    found = [part for part in parts if part.name == field]
    if not found:
        named = ", ".join(sorted({part.name[:50] for part in parts})[:5]) or "none"
        raise Refusal(422, "missing_field", f"Field '{field}' is missing; fields found: {named}.", hint)
    if not all(part.is_file for part in found):
        raise Refusal(422, "not_a_file", f"Field '{field}' holds text, a file is expected.", hint)
    return [part.content for part in found]

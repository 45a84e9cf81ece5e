"""What an image's header says, asked before a pixel is decoded: a few hundred bytes can claim a gigabyte."""

import contextlib
import struct
from collections.abc import Sequence
from io import BytesIO
from typing import NamedTuple

import simplejpeg
from PIL import Image, UnidentifiedImageError

from bentos.classifier.errors import Refusal
from flywheel.data.decode import FORMATS, PNG_START

ACCEPTED = "Send one whole JPEG, PNG, WebP, GIF, BMP or TIFF file."
PNG_SIZE = struct.Struct(">II")
PNG_SIZE_AT = 16


class Header(NamedTuple):
    format: str  # JPEG, PNG …
    width: int
    height: int


def checked_header(file: bytes, most_pixels: int) -> Header:
    """Raises Refusal for what is no image, and for more than `most_pixels`."""
    if not file:
        raise Refusal(400, "empty_image", "The image has 0 bytes.", ACCEPTED)
    try:
        header = _quickly(file) or _by_pillow(file)
    except Image.DecompressionBombError as error:
        raise _too_many(f"The image is too large: {error}", most_pixels) from error
    except UnidentifiedImageError as error:
        raise Refusal(415, "not_an_image", f"These {len(file):,} bytes are no image.", ACCEPTED) from error
    except Exception as error:  # readers of hostile bytes fail in ways of their own
        message = f"The image is damaged or cut off, its header can't be read: {error}"
        raise Refusal(422, "undecodable_image", message[:300], ACCEPTED) from error
    if header.width * header.height > most_pixels:
        raise _too_many(f"The image is {header.width} × {header.height} pixels.", most_pixels)
    return header


def check_together(files: Sequence[bytes], most_pixels: int, most_together: int) -> None:
    """Raises Refusal where the readable images of one request are more work than one request may ask for."""
    total = 0
    for file in files:
        with contextlib.suppress(Refusal):  # it will fail alone, in its place
            header = checked_header(file, most_pixels)
            total += header.width * header.height
    if total > most_together:
        hint = f"At most {most_together:,} pixels are decoded for one request; send fewer or smaller images."
        raise Refusal(413, "too_many_pixels", f"The images have {total:,} pixels together.", hint)


def _quickly(file: bytes) -> Header | None:
    """A whole JPEG's or PNG's, for a tenth of what Pillow takes; None where Pillow must look."""
    if file.startswith(b"\xff\xd8"):
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(file)
        except ValueError:
            return None
        return Header("JPEG", width, height)
    if file.startswith(PNG_START) and file[12:16] == b"IHDR" and len(file) >= PNG_SIZE_AT + PNG_SIZE.size:
        return Header("PNG", *PNG_SIZE.unpack_from(file, PNG_SIZE_AT))
    return None


def _by_pillow(file: bytes) -> Header:
    with Image.open(BytesIO(file), formats=FORMATS) as image:
        return Header(str(image.format), *image.size)


def _too_many(message: str, most_pixels: int) -> Refusal:
    hint = f"At most {most_pixels:,} pixels (width × height) are decoded; send it smaller."
    return Refusal(413, "too_many_pixels", message, hint)

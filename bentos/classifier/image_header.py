"""What an image's header says, asked before a pixel is decoded: a few hundred bytes can claim a gigabyte."""

import contextlib
from collections.abc import Sequence
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from bentos.classifier.errors import Refusal
from flywheel.data.decode import FORMATS

ACCEPTED = "Send one whole JPEG, PNG, WebP, GIF, BMP or TIFF file."


def checked_pixels(file: bytes, most_pixels: int) -> int:
    """Width × height. Raises Refusal for what is no image, and for more than `most_pixels`."""
    if not file:
        raise Refusal(400, "empty_image", "The image has 0 bytes.", ACCEPTED)
    try:
        with Image.open(BytesIO(file), formats=FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise _too_many(f"The image is too large: {error}", most_pixels) from error
    except UnidentifiedImageError as error:
        raise Refusal(415, "not_an_image", f"These {len(file):,} bytes are no image.", ACCEPTED) from error
    except Exception as error:  # readers of hostile bytes fail in ways of their own
        message = f"The image's header can't be read: {error}"
        raise Refusal(422, "undecodable_image", message[:300], ACCEPTED) from error
    if width * height > most_pixels:
        raise _too_many(f"The image is {width} × {height} pixels.", most_pixels)
    return width * height


def check_together(files: Sequence[bytes], most_pixels: int, most_together: int) -> None:
    """Raises Refusal where the readable images of one request are more work than one request may ask for."""
    total = 0
    for file in files:
        with contextlib.suppress(Refusal):  # it will fail alone, in its place
            total += checked_pixels(file, most_pixels)
    if total > most_together:
        hint = f"At most {most_together:,} pixels are decoded for one request; send fewer or smaller images."
        raise Refusal(413, "too_many_pixels", f"The images have {total:,} pixels together.", hint)


def _too_many(message: str, most_pixels: int) -> Refusal:
    hint = f"At most {most_pixels:,} pixels (width × height) are decoded; send it smaller."
    return Refusal(413, "too_many_pixels", message, hint)

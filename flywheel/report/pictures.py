"""Images as text that stands inside a page: upright, small, and written anew, so that no byte of the file gets in."""

import io
from base64 import b64encode

from PIL import Image

from flywheel.data.decode import decode

LONGEST_SIDE = 128  # pixels; 24 of them, as JPEG, are a quarter of a megabyte
LOSSLESS_SIDE = 48  # smaller ones are enlarged by the browser, and JPEG's blocks would show
QUALITY = 82


def picture(data: bytes) -> str:
    """A data URI of an image file. Raises UndecodableImage for bytes that are none."""
    image = Image.fromarray(decode(data))
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    file, kind = io.BytesIO(), "png" if max(image.size) <= LOSSLESS_SIDE else "jpeg"
    if kind == "png":
        image.save(file, "PNG", optimize=True)
    else:
        image.save(file, "JPEG", quality=QUALITY)
    return f"data:image/{kind};base64,{b64encode(file.getvalue()).decode('ascii')}"

"""`uint8[N, H, W, 3]` as a .npy body: its header is read by hand before any memory is taken, and no pickle ever is."""

import ast
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bentos.classifier.errors import Refusal

MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 4096
HEADS = {1: 2, 2: 4, 3: 4}  # version → bytes of the header's length
HINT = "Send one C-ordered array uint8[N, H, W, 3] as numpy.save writes it."


def images_of_npy(body: bytes, most_images: int, most_pixels: int, most_together: int) -> list[NDArray[np.uint8]]:
    """N images uint8[H, W, 3], which share the body's memory. Raises Refusal."""
    shape, start = _header(body)
    if len(shape) != 4 or shape[3] != 3 or min(shape) < 1:
        raise Refusal(422, "wrong_shape", f"The array's shape is {list(shape)}.", HINT)
    images, height, width, _ = shape
    if images > most_images:
        hint = f"At most {most_images} images in one request."
        raise Refusal(413, "too_many_images", f"The array holds {images:,} images.", hint)
    if height * width > most_pixels or images * height * width > most_together:
        message = f"The array holds {images} images of {height} × {width} pixels."
        hint = f"At most {most_pixels:,} pixels an image and {most_together:,} in one request."
        raise Refusal(413, "too_many_pixels", message, hint)
    if len(body) - start != math.prod(shape):
        message = f"The header promises {math.prod(shape):,} bytes of pixels, {len(body) - start:,} follow."
        raise Refusal(422, "malformed_npy", message, HINT)
    return list(np.frombuffer(body, np.uint8, offset=start).reshape(shape))


def _header(body: bytes) -> tuple[tuple[int, ...], int]:
    """Shape, and where the pixels begin."""
    if not body.startswith(MAGIC) or len(body) < len(MAGIC) + 2:
        raise Refusal(415, "not_npy", f"These {len(body):,} bytes are no .npy file.", HINT)
    length_bytes = HEADS.get(body[len(MAGIC)])
    if length_bytes is None:
        raise Refusal(415, "not_npy", f"The .npy file's version {body[len(MAGIC)]} is not known.", HINT)
    begin = len(MAGIC) + 2 + length_bytes
    length = int.from_bytes(body[len(MAGIC) + 2 : begin], "little")
    if length > LONGEST_HEADER or begin + length > len(body):
        raise Refusal(422, "malformed_npy", "The .npy file's header is cut off, or far too long.", HINT)
    try:
        header: Any = ast.literal_eval(body[begin : begin + length].decode("latin-1").strip())
        kind, fortran, shape = header["descr"], header["fortran_order"], tuple(header["shape"])
        whole = all(type(side) is int and side >= 0 for side in shape)
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        raise Refusal(422, "malformed_npy", "The .npy file's header can't be read.", HINT) from None
    if kind != "|u1":
        raise Refusal(422, "wrong_dtype", f"The array's dtype is {str(kind)[:50]!r}, '|u1' (uint8) is expected.", HINT)
    if fortran is not False or not whole:
        raise Refusal(422, "wrong_shape", "The array is in Fortran order, or its shape is none.", HINT)
    return shape, begin + length

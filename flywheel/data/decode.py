"""The only decoder of the project: bytes → uint8[H, W, 3], the same for index, training, evaluation and the service.

What a file becomes: orientation of EXIF applied; transparency laid on white; palette, CMYK and grayscale turned to RGB;
16 bits a channel scaled to 8 by keeping the high byte, as Pillow does for colour; of an animation the first frame;
always the full resolution.

JPEG goes through libjpeg-turbo in strict mode (simplejpeg, about ten times faster on small files), the rest through
Pillow. Both give the same pixels for the JPEGs that both read.
"""

import hashlib
import io
import struct

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

# A photograph of 64 megapixels is 192 MiB of RGB: more than any camera phone writes by default, and still harmless.
MAX_PIXELS = 64 * 1024 * 1024
# Raster formats that Pillow decodes in its own process. EPS and its like, which start other programs, are not here.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000")
WHITE = (255, 255, 255, 255)
ORIENTATION_TAG = 0x0112
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
JPEG_MODES = {"YCbCr": "RGB", "Gray": "L"}  # libjpeg-turbo's names → Pillow's
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}


class UndecodableImage(ValueError):  # noqa: N818 - named for the thing, as the service says it
    """The bytes are no image that can be trusted; the message is one sentence that says why."""


def decode(data: bytes) -> NDArray[np.uint8]:
    """The pixels uint8[H, W, 3] of an image file, upright and RGB.

    Raises UndecodableImage for an empty, truncated, corrupt or unknown file and for more than MAX_PIXELS; the size is
    refused from the header, before pixels are allocated.
    """
    if not data:
        raise UndecodableImage("the file is empty.")
    if data.startswith(PNG_START) and PNG_END not in data:  # Pillow does not ask for the end
        raise UndecodableImage("it is damaged: the PNG file ends too early.")
    try:
        pixels = _decode_jpeg(data) if data.startswith(b"\xff\xd8") else None
        return _decode_by_pillow(data) if pixels is None else pixels
    except UndecodableImage:
        raise
    except UnidentifiedImageError as error:
        raise UndecodableImage("it is in no image format that is known here.") from error
    except Image.DecompressionBombError as error:
        raise UndecodableImage(f"it has more than the {MAX_PIXELS:,} pixels allowed.") from error
    except Exception as error:  # decoders of hostile bytes fail in ways of their own; the file is the unit that failed
        raise UndecodableImage(f"it is damaged: {_one_sentence(error)}") from error


def resize(image: NDArray[np.uint8], size: int, filter: str) -> NDArray[np.uint8]:
    """uint8[H, W, 3] → uint8[size, size, 3]: shortest side scaled to `size`, then the centre of it, in one pass.

    Identity when the image is size × size already. Raises KeyError for a filter that is not in FILTERS.
    """
    resampling = FILTERS[filter]
    height, width = image.shape[:2]
    if height == width == size:
        return image
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    square = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(image).resize((size, size), resampling, box=square))


def image_id(image: NDArray[np.uint8]) -> str:
    """All 64 hex digits of the SHA-256 over width, height and RGB pixels: the same for any lossless encoding."""
    height, width = image.shape[:2]
    hasher = hashlib.sha256(f"{width}x{height}\n".encode())
    hasher.update(np.ascontiguousarray(image).data)
    return hasher.hexdigest()


def mode_of(data: bytes) -> str:
    """Pillow's name for how the file stores pixels: RGB, L, P, CMYK …; empty where no format is recognised."""
    if data.startswith(b"\xff\xd8"):
        try:
            colour = str(simplejpeg.decode_jpeg_header(data)[2])
            return JPEG_MODES.get(colour, colour)
        except ValueError:
            pass
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return str(image.mode)
    except Exception:  # noqa: BLE001 - a file that no decoder opens has no mode
        return ""


def _decode_jpeg(data: bytes) -> NDArray[np.uint8] | None:
    """The strict fast path; None for what only Pillow reads (CMYK, unusual subsampling)."""
    try:
        height, width, colour, _ = simplejpeg.decode_jpeg_header(data)
        if colour not in JPEG_MODES:
            return None
        _refuse_large(width, height)
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="RGB")
    except ValueError as error:
        if isinstance(error, UndecodableImage) or _is_damage(str(error)):
            raise
        return None
    if b"Exif\0\0" not in data and b"tiff:Orientation" not in data:
        return pixels
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        return _upright(Image.fromarray(pixels), _orientation(image))


def _is_damage(message: str) -> bool:
    """libjpeg's complaints that mean lost pixels; stray bytes between segments, which some cameras write, do not."""
    return "premature end" in message.lower() or ("Corrupt JPEG data" in message and "extraneous" not in message)


def _decode_by_pillow(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        _refuse_large(*image.size)
        image.load()
        return _upright(_as_rgb(image), _orientation(image))


def _refuse_large(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UndecodableImage(f"it has {width} × {height} pixels, more than the {MAX_PIXELS:,} allowed.")


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return Image.fromarray(_high_byte(image)).convert("RGB")
    if image.mode == "F":
        raise UndecodableImage("its pixels are floating-point numbers without a stated range.")
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, WHITE)
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _high_byte(image: Image.Image) -> NDArray[np.uint8]:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise UndecodableImage("its pixels are 32-bit integers without a stated range.")
    return (values >> 8).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    """1 (upright) to 8. Broken EXIF beside whole pixels counts as upright."""
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except (ValueError, TypeError, SyntaxError, KeyError, OSError, struct.error):
        return 1


def _upright(image: Image.Image, orientation: int) -> NDArray[np.uint8]:
    turn = TURNED.get(orientation)
    return np.array(image if turn is None else image.transpose(turn), np.uint8)


def _one_sentence(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rstrip(".")[:200] + "."

"""Real images in the forms that clients send, each with the pixels that it must be read as.

Those pixels are known from how the file was made, wherever that is possible: from the pixels that a lossless file was
written of, from numpy where it was turned or laid on white, from the packed dataset for a frozen image's own file. So
a reading that is wrong in code that the Bento and this process share shows too. What remains read by `decode()` alone
is a JPEG's lossy pixels, and the forms that say so.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flywheel.data.decode import ORIENTATION_TAG, decode
from flywheel.data.versions import open_arrays, original_bytes, version_table
from flywheel.identity import digest
from flywheel.paths import Paths
from flywheel.records import DatasetVersion, Side

Pixels = NDArray[np.uint8]

ORIGINALS = 3  # frozen images whose own files are sent, and that the other forms are made of
LARGEST_ORIGINAL = 2_000_000  # pixels, where the frozen side has so small ones: a probe is to be quick
WIDTH, HEIGHT = 80, 60  # of a form: no square, so that a turned one is cropped elsewhere
SIZES = ((47, 31), (31, 47), (500, 333), (13, 17), (200, 3))  # width, height
QUALITY = 90
SHARE_OF_IMAGE, SHARE_OF_CHART = 0.45, 0.35  # the rest is noise
# How the pixels of a file with this EXIF orientation are turned to stand upright.
TURNED: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels),
}


@dataclass(frozen=True)
class Probe:
    """A file, and what it shows."""

    name: str
    data: bytes
    pixels: Pixels  # uint8[H, W, 3], upright and RGB, or uint8[S, S, 3] as packed for training


def probes_of(dataset: DatasetVersion, paths: Paths) -> tuple[Probe, ...]:
    """The probes of a model that was trained on this version. Raises OriginalError where its originals are gone."""
    arrays, table = open_arrays(dataset), version_table(dataset)
    frozen = arrays.side(Side.FROZEN)
    pixels = (table["width"] * table["height"]).to_numpy()[frozen]
    small = frozen[pixels <= LARGEST_ORIGINAL] if (pixels <= LARGEST_ORIGINAL).any() else frozen[[pixels.argmin()]]
    rows = small[np.unique(np.linspace(0, len(small) - 1, ORIGINALS).astype(np.int64))]  # ids are hashes: any will do
    originals = [(original_bytes(paths, str(arrays.ids[row])), np.array(arrays.images[row])) for row in rows]
    return make_probes(originals)


def make_probes(originals: Sequence[tuple[bytes, Pixels]]) -> tuple[Probe, ...]:
    """The files as they are, with their packed pixels uint8[S, S, 3]; and all forms, made of one after the other."""
    own = [Probe(f"original {number}", data, packed) for number, (data, packed) in enumerate(originals, 1)]
    size = originals[0][1].shape[0]
    return (*own, *_forms([decode(data) for data, _ in originals], size))


def digest_of_probes(probes: Sequence[Probe]) -> str:
    return digest([(probe.name, probe.data.hex(), probe.pixels.tobytes().hex()) for probe in probes])


def _forms(images: Sequence[Pixels], size: int) -> Iterator[Probe]:
    pictures = [_charted(image, WIDTH, HEIGHT) for image in images]
    for number, make in enumerate((_colour, _gray, _transparent, _palette, _jpegs, _turned)):
        yield from make(pictures[number % len(pictures)])
    for number, (width, height) in enumerate((*SIZES, (size, size))):
        pixels = _charted(images[number % len(images)], width, height)
        yield Probe(f"{width} × {height}", _encoded(pixels, "PNG"), pixels)


def _charted(image: Pixels, width: int, height: int) -> Pixels:
    """The image under ramps of colour and noise.

    A dataset's own images may be gray, symmetric or smooth: then swapped channels, an ignored orientation or another
    resizing would not show.
    """
    real = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC), np.float64)
    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    chart = 255 * np.stack([across, down, 1 - (across + down) / 2], -1)
    noise = np.random.default_rng(width * height).integers(0, 256, (height, width, 3))
    mixed = SHARE_OF_IMAGE * real + SHARE_OF_CHART * chart + (1 - SHARE_OF_IMAGE - SHARE_OF_CHART) * noise
    return np.rint(mixed).astype(np.uint8)


def _colour(pixels: Pixels) -> Iterator[Probe]:
    yield Probe("PNG", _encoded(pixels, "PNG"), pixels)
    yield Probe("WebP without loss", _encoded(pixels, "WEBP", lossless=True), pixels)
    yield Probe("TIFF", _encoded(pixels, "TIFF", compression="tiff_lzw"), pixels)
    yield Probe("BMP", _encoded(pixels, "BMP"), pixels)


def _gray(pixels: Pixels) -> Iterator[Probe]:
    gray = pixels[..., 1]
    yield Probe("gray PNG", _encoded(gray, "PNG"), _as_rgb(gray))
    sixteen = gray.astype(np.uint16) << 8 | pixels[..., 0]  # of 16 bits the high byte counts
    yield Probe("gray PNG of 16 bits", _encoded(sixteen, "PNG"), _as_rgb(gray))


def _transparent(pixels: Pixels) -> Iterator[Probe]:
    """From clear on the left to solid on the right, with whatever colours lie under the clear part."""
    alpha = np.broadcast_to(np.linspace(0, 255, pixels.shape[1]).astype(np.uint8), pixels.shape[:2])
    rgba = np.dstack([pixels, alpha])
    yield Probe("RGBA PNG", _encoded(rgba, "PNG"), _on_white(pixels, alpha))
    gray = pixels[..., 0]
    yield Probe("gray PNG with alpha", _encoded(np.dstack([gray, alpha]), "PNG"), _on_white(_as_rgb(gray), alpha))


def _palette(pixels: Pixels) -> Iterator[Probe]:
    image = Image.fromarray(pixels).quantize(64)
    colours = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
    colours = np.concatenate([colours, np.zeros((256 - len(colours), 3), np.uint8)])
    clear = int(np.asarray(image)[0, 0])
    yield Probe("palette PNG", _saved(image, "PNG"), colours[np.asarray(image)])
    shown = np.where(np.arange(256)[:, None] == clear, 255, colours).astype(np.uint8)
    yield Probe("palette PNG, one clear", _saved(image, "PNG", transparency=clear), shown[np.asarray(image)])


def _jpegs(pixels: Pixels) -> Iterator[Probe]:
    """Their lossy pixels are what `decode()` says."""
    files = {
        "JPEG": _encoded(pixels, "JPEG", quality=QUALITY),
        "progressive JPEG 4:4:4": _encoded(pixels, "JPEG", quality=QUALITY, progressive=True, subsampling=0),
        "gray JPEG": _encoded(pixels[..., 1], "JPEG", quality=QUALITY),
        "CMYK JPEG": _saved(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=QUALITY),
    }
    for name, data in files.items():
        yield Probe(name, data, decode(data))


def _turned(pixels: Pixels) -> Iterator[Probe]:
    """The same JPEG pixels under each orientation, turned here by numpy; and one PNG."""
    plain = decode(_encoded(pixels, "JPEG", quality=QUALITY))
    for orientation, turn in TURNED.items():
        data = _encoded(pixels, "JPEG", quality=QUALITY, exif=_exif(orientation))
        yield Probe(f"JPEG, EXIF orientation {orientation}", data, np.ascontiguousarray(turn(plain)))
    data = _encoded(pixels, "PNG", exif=_exif(6))
    yield Probe("PNG, EXIF orientation 6", data, np.ascontiguousarray(TURNED[6](pixels)))


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    return exif


def _as_rgb(gray: Pixels) -> Pixels:
    return np.repeat(gray[..., None], 3, 2)


def _on_white(pixels: Pixels, alpha: Pixels) -> Pixels:
    weight = alpha[..., None].astype(np.uint32)
    return ((pixels * weight + 255 * (255 - weight) + 127) // 255).astype(np.uint8)


def _encoded(pixels: NDArray[np.uint8] | NDArray[np.uint16], kind: str, **options: object) -> bytes:
    return _saved(Image.fromarray(pixels), kind, **options)


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()

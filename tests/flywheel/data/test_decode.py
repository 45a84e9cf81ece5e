"""What bytes become, and which are refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from flywheel.data import decode as module
from flywheel.data.decode import FILTERS, UndecodableImage, decode, image_id, mode_of, resize

NOISE = np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_both_jpeg_paths_give_the_same_pixels(subsampling: int, progressive: bool) -> None:
    data = encoded(Image.fromarray(NOISE), "JPEG", quality=70, subsampling=subsampling, progressive=progressive)
    assert np.array_equal(module._decode_jpeg(data), module._decode_by_pillow(data))


def test_a_gray_jpeg_has_three_equal_channels_on_both_paths() -> None:
    data = encoded(Image.fromarray(NOISE[..., 0]), "JPEG")
    pixels = decode(data)
    assert pixels.shape == (37, 51, 3)
    assert (pixels[..., 0] == pixels[..., 2]).all()
    assert np.array_equal(pixels, module._decode_by_pillow(data))
    assert mode_of(data) == "L"


def test_lossless_formats_keep_every_pixel() -> None:
    for kind, options in (("PNG", {}), ("BMP", {}), ("TIFF", {}), ("PPM", {}), ("WEBP", {"lossless": True})):
        assert np.array_equal(decode(encoded(Image.fromarray(NOISE), kind, **options)), NOISE), kind


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(NOISE), kind, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(decode(data), expected)
    assert decode(data).shape == ((51, 37, 3) if orientation > 4 else (37, 51, 3))


def test_broken_exif_counts_as_upright() -> None:
    data = encoded(Image.fromarray(NOISE), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert decode(data).shape == (37, 51, 3)


def test_transparency_lies_on_white() -> None:
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 0] = 200
    pixels[0, :, 3] = (0, 51, 255)  # transparent, a fifth, opaque
    red, others = decode(encoded(Image.fromarray(pixels, "RGBA"), "PNG"))[0, :, 0], [255, 204, 0]
    assert red.tolist() == [255, 244, 200]  # 255 - (255 - 200) / 5
    assert decode(encoded(Image.fromarray(pixels, "RGBA"), "PNG"))[0, :, 1].tolist() == others


def test_a_palette_with_transparency_and_gray_with_alpha_lie_on_white() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    assert decode(encoded(palette, "PNG", transparency=0))[0].tolist() == [[255, 255, 255], [40, 50, 60]]
    gray = Image.new("LA", (1, 1), (7, 0))
    assert decode(encoded(gray, "PNG"))[0, 0].tolist() == [255, 255, 255]


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        assert decode(encoded(Image.fromarray(values), kind))[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    raw = b"P5 5 1 65535\n" + values.astype(">u2").tobytes()
    assert decode(raw)[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_numbers_without_a_range_are_refused() -> None:
    wide = np.array([[0, 70_000]], np.int32)
    with pytest.raises(UndecodableImage, match="32-bit"):
        decode(encoded(Image.fromarray(wide), "TIFF"))
    with pytest.raises(UndecodableImage, match="floating"):
        decode(encoded(Image.fromarray(wide.astype(np.float32)), "TIFF"))


def test_cmyk_becomes_rgb() -> None:
    data = encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG", quality=95)
    assert decode(data).min() > 250
    assert mode_of(data) == "CMYK"


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("cut", [1, 2, 10, 100, 500])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_truncated_file_is_refused(kind: str, cut: int) -> None:
    data = encoded(Image.fromarray(NOISE), kind)
    cut += {"GIF": 2, "BMP": 3}.get(kind, 0)  # what may miss at the end without a pixel missing
    with pytest.raises(UndecodableImage):
        decode(data[:-cut])


def test_a_jpeg_cut_in_its_pixels_and_closed_again_is_refused() -> None:
    data = encoded(Image.fromarray(NOISE), "JPEG")
    with pytest.raises(UndecodableImage, match="damaged"):
        decode(data[: len(data) // 2] + b"\xff\xd9")
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(NOISE), "JPEG", exif=exif)
    with pytest.raises(UndecodableImage):
        decode(data[: len(data) // 2] + b"\xff\xd9")


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b"this is text, named .jpg", "no image format"), (b"\xff\xd8\xff", "no image format|damaged")],
)
def test_no_image_is_refused_with_one_sentence(data: bytes, reason: str) -> None:
    with pytest.raises(UndecodableImage, match=reason) as caught:
        decode(data)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value), "an address makes the reason differ from run to run"


@pytest.mark.parametrize(("width", "height"), [(8193, 8193), (12_000, 12_000), (2_000_000, 2_000_000)])
def test_too_many_pixels_are_refused_from_the_header(width: int, height: int) -> None:
    with pytest.raises(UndecodableImage, match="pixels"):
        decode(png_header(width, height))


def test_a_text_chunk_bomb_is_refused() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "0" * 70_000_000, zip=True)
    with pytest.raises(UndecodableImage):
        decode(encoded(Image.fromarray(NOISE), "PNG", pnginfo=info))


def test_resize_leaves_a_fitting_image_and_crops_the_centre_of_another() -> None:
    square = NOISE[:32, :32]
    assert resize(square, 32, "bicubic") is square
    wide = NOISE[:12, :36]
    for name, resampling in FILTERS.items():
        scaled = np.asarray(Image.fromarray(wide).resize((18, 6), resampling))  # the shortest side to 6 ...
        assert np.array_equal(resize(wide, 6, name), scaled[:, 6:12]), name  # ... and the centre of it
    assert resize(NOISE, 16, "lanczos").shape == (16, 16, 3)


def test_image_id_depends_on_pixels_and_size_alone() -> None:
    ids = {image_id(decode(encoded(Image.fromarray(NOISE), kind))) for kind in ("PNG", "BMP", "TIFF")}
    assert ids == {image_id(NOISE)}
    assert len(image_id(NOISE)) == 64
    flat = np.zeros((2, 8, 3), np.uint8)
    assert image_id(flat) != image_id(flat.reshape(8, 2, 3))
    assert image_id(np.asfortranarray(NOISE)) == image_id(NOISE)

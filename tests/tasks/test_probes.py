"""A probe's pixels are known without the decoder, and the decoder finds the same; each form shows its fault."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flywheel.data import originals
from flywheel.data.decode import decode, image_id, mode_of, resize
from flywheel.data.index import build_index
from flywheel.data.originals import OriginalError
from flywheel.data.sources import fetch_source
from flywheel.data.versions import build_version, open_arrays
from flywheel.records import DatasetVersion, Side
from flywheel.settings import DataParameters, Settings
from tasks import probes as module
from tasks.probes import Probe, digest_of_probes, make_probes, probes_of


@pytest.fixture(scope="module")
def gray() -> tuple[Probe, ...]:
    """Of one flat gray image, which by itself would show nothing."""
    pixels = np.full((32, 32, 3), 120, np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return make_probes([(file.getvalue(), pixels)])


@pytest.fixture(scope="module")
def project(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, DatasetVersion]:
    settings = Settings(home=tmp_path_factory.mktemp("project"), database_url="")
    index = build_index(fetch_source(str(photos), settings), settings.paths)
    return settings, build_version(index, (), DataParameters(source="photos", size=24), settings.paths)


def test_the_decoder_reads_every_probe_as_it_is_known_to_be(gray: tuple[Probe, ...]) -> None:
    assert len({probe.name for probe in gray}) == len(gray) == 29
    for probe in gray:
        assert np.array_equal(decode(probe.data), probe.pixels), probe.name
    modes = {mode_of(probe.data) for probe in gray}
    assert {"RGB", "RGBA", "L", "LA", "P", "CMYK", "I;16"} <= modes


@pytest.mark.parametrize(
    "fault",
    [
        lambda pixels: pixels[..., ::-1],
        lambda pixels: pixels[::-1],
        lambda pixels: pixels[:, ::-1],
        lambda pixels: pixels.transpose(1, 0, 2),
        lambda pixels: np.rot90(pixels),
    ],
    ids=["channels", "flipped", "mirrored", "transposed", "turned"],
)
def test_a_fault_shows_on_any_image(gray: tuple[Probe, ...], fault: Callable[[np.ndarray], np.ndarray]) -> None:
    (probe,) = (probe for probe in gray if probe.name == "PNG")
    right = resize(probe.pixels, 32, "bicubic").astype(int)
    wrong = resize(np.ascontiguousarray(fault(probe.pixels)), 32, "bicubic").astype(int)
    assert np.abs(right - wrong).mean() > 10


@pytest.mark.parametrize("filter", ["bilinear", "nearest", "lanczos", "box"])
def test_another_filter_shows_on_any_image(gray: tuple[Probe, ...], filter: str) -> None:
    (probe,) = (probe for probe in gray if probe.name == "PNG")
    right, wrong = (resize(probe.pixels, 32, name).astype(int) for name in ("bicubic", filter))
    assert np.abs(right - wrong).mean() > 0.5


def test_they_are_made_of_frozen_images_own_files(project: tuple[Settings, DatasetVersion]) -> None:
    settings, version = project
    probes = probes_of(version, settings.paths)
    arrays = open_arrays(version)
    frozen = arrays.side(Side.FROZEN)
    own = probes[: module.ORIGINALS]
    assert {image_id(decode(probe.data)) for probe in own} <= set(arrays.ids[frozen])
    assert len({probe.data for probe in own}) == module.ORIGINALS
    for probe in own:
        assert probe.pixels.shape == (24, 24, 3)
        assert np.array_equal(resize(decode(probe.data), 24, version.filter), probe.pixels)
    assert "24 × 24" in {probe.name for probe in probes}
    assert digest_of_probes(probes_of(version, settings.paths)) == digest_of_probes(probes)
    assert digest_of_probes(probes[1:]) != digest_of_probes(probes)


def test_the_smallest_image_is_taken_where_all_are_large(
    project: tuple[Settings, DatasetVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, version = project
    monkeypatch.setattr(module, "LARGEST_ORIGINAL", 100)
    names = [probe.name for probe in probes_of(version, settings.paths) if "original" in probe.name]
    assert names == ["original 1"]


def test_an_original_that_is_gone_is_named(
    project: tuple[Settings, DatasetVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, version = project
    monkeypatch.setattr(originals, "_packs", lambda _: iter(()))
    with pytest.raises(OriginalError, match="Run 'make data'"):
        probes_of(version, settings.paths)

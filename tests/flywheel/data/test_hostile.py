"""Every row of the table in docs/data.md: hostile data, by the real functions from source to dataset version.

A case below stands for one row and returns what its user sees; each message that the row quotes must be in it.
"""

import io
import os
import re
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from flywheel.data.decode import decode
from flywheel.data.index import build_index, read_index
from flywheel.data.sources import SourceError, fetch_source
from flywheel.data.splits import SplitError
from flywheel.data.versions import VersionError, build_version, read_left_out, version_table
from flywheel.records import DatasetVersion, Severity
from flywheel.settings import DataParameters, Settings
from tasks.validation import ValidationFailed, check_index, quarantine, require, told

PAGE = Path(__file__).parents[3] / "docs" / "data.md"
ROW = re.compile(r"^\| (?!Case |---)(?P<case>[^|]+?) \| (?P<seen>[^|]+?) \| (?P<rest>[^|]+?) \|$", re.MULTILINE)
ROWS = {found["case"]: found["seen"] for found in ROW.finditer(PAGE.read_text(encoding="utf-8").split("\n## ")[0])}
WIDE = DataParameters(size=16, subset=None)
PER_CLASS = 60
REFUSALS = (SourceError, ValidationFailed, SplitError, VersionError)


@dataclass
class Bench:
    """A workspace, a source with 60 sound images of cats and 60 of dogs, and the chain from source to version."""

    home: Path
    source: Path
    seed: int = 10_000

    def prepare(self, request: Path | None = None, parameters: DataParameters = WIDE) -> "Prepared":
        settings = Settings(home=self.home)
        source = fetch_source(str(request or self.source), settings)
        index = build_index(source, settings.paths)
        found = check_index(index, parameters, settings.paths)
        require(found)
        rows = quarantine(index, found, settings.paths)
        version = build_version(index, rows, parameters, settings.paths)
        warnings = "\n".join(line for one in found.failed(Severity.WARNING) for line in told(one))
        listed = settings.paths.quarantine(index.id).read_text(encoding="utf-8", errors="strict")
        return Prepared(version, warnings + "\n" + listed, set(read_index(index)["path"].iloc[list(rows)]))

    def refused(self, request: Path | None = None, parameters: DataParameters = WIDE) -> str:
        with pytest.raises(REFUSALS) as stopped:
            self.prepare(request, parameters)
        assert not list(self.home.glob("data/processed/ds-*")), "a refused source leaves no version"
        return str(stopped.value)

    def picture(self, width: int = 16, height: int = 16) -> NDArray[np.uint8]:
        """uint8[H, W, 3] of noise at few cells, another one at each call."""
        self.seed += 1
        return noise(self.seed, width, height)

    def save(self, name: str, image: NDArray[np.uint8] | Image.Image | None = None, **options: Any) -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = self.picture() if image is None else image
        (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)
        return path

    def fill(self, label: str, images: int) -> None:
        for number in range(images):
            self.save(f"{label}/{number:04}.png")


@dataclass
class Prepared:
    version: DatasetVersion
    seen: str  # warnings and quarantine list
    quarantined: set[str]

    @property
    def kept(self) -> set[str]:
        return set(version_table(self.version)["path"])


Case = Callable[[Bench], str]
CASES: dict[str, Case] = {}


def row(case: str) -> Callable[[Case], Case]:
    def note(function: Case) -> Case:
        assert case not in CASES
        CASES[case] = function
        return function

    return note


def noise(seed: int, width: int, height: int) -> NDArray[np.uint8]:
    cells = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(cells).resize((width, height), Image.Resampling.NEAREST))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound")
    for place, label in enumerate(("cat", "dog")):
        (root / label).mkdir()
        for number in range(PER_CLASS):
            pixels = noise(1000 * place + number, 16, 16)
            Image.fromarray(pixels).save(root / label / f"{number:02}.png", compress_level=1)
    return root


@pytest.fixture
def bench(sound: Path, tmp_path: Path) -> Bench:
    return Bench(tmp_path / "home", shutil.copytree(sound, tmp_path / "photos"))


def sound_paths() -> set[str]:
    return {f"{label}/{number:02}.png" for label in ("cat", "dog") for number in range(PER_CLASS)}


def only_quarantined(bench: Bench, *names: str) -> str:
    """The named files are taken out with their reasons, and every sound one is kept."""
    done = bench.prepare()
    assert done.quarantined == set(names)
    assert done.kept == sound_paths() - set(names)
    assert done.version.quarantined == len(names)
    return done.seen


def kept_with_the_rest(bench: Bench, *names: str) -> str:
    done = bench.prepare()
    assert done.quarantined == set()
    assert done.kept == sound_paths() | set(names)
    return done.seen


def png(width: int, height: int, bits: int, colour: int, *chunks: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = ((b"IHDR", header), *chunks, (b"IEND", b""))
    joined = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + joined


def test_every_row_of_the_page_is_a_case_and_every_case_a_row() -> None:
    assert list(ROWS) == list(CASES)


@pytest.mark.parametrize("case", CASES)
def test_what_the_page_says_happens(case: str, bench: Bench) -> None:
    seen = CASES[case](bench)
    for quoted in re.findall(r"`([^`]+)`", ROWS[case]):
        assert quoted in seen, f"{case}: {quoted!r} is not in what the user sees:\n{seen}"


@row("Truncated JPEG")
def truncated(bench: Bench) -> str:
    path = bench.save("cat/cut.jpg", bench.picture(64, 64))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return only_quarantined(bench, "cat/cut.jpg")


@row("File of zero bytes")
def empty_file(bench: Bench) -> str:
    (bench.source / "cat/empty.png").touch()
    return only_quarantined(bench, "cat/empty.png")


@row("Text named .jpg")
def text(bench: Bench) -> str:
    (bench.source / "dog/notes.jpg").write_text("my notes\n")
    return only_quarantined(bench, "dog/notes.jpg")


@row("Bomb of 20,000 × 20,000 pixels")
def pixel_bomb(bench: Bench) -> str:
    """A valid PNG of one bit a pixel: 50 MB of zeros in 50 kB, 1.2 GB once decoded to RGB."""
    side = 20_000
    data = png(side, side, 1, 0, (b"IDAT", zlib.compress(bytes((side // 8 + 1) * side), 1)))
    assert len(data) < 500_000
    (bench.source / "cat/bomb.png").write_bytes(data)
    return only_quarantined(bench, "cat/bomb.png")


@row("PNG with a chunk bomb")
def chunk_bomb(bench: Bench) -> str:
    """8 × 8 pixels, and a text of 64 MB in 300 kB beside them."""
    pixels = zlib.compress(b"".join(b"\0" + line.tobytes() for line in bench.picture(8, 8)))
    text = b"Comment\0\0" + zlib.compress(bytes(64 * 1024**2), 1)
    (bench.source / "cat/chunk.png").write_bytes(png(8, 8, 8, 2, (b"zTXt", text), (b"IDAT", pixels)))
    return only_quarantined(bench, "cat/chunk.png")


@row("CMYK JPEG")
def cmyk(bench: Bench) -> str:
    bench.save("cat/print.jpg", Image.fromarray(bench.picture()).convert("CMYK"))
    return kept_with_the_rest(bench, "cat/print.jpg")


@row("Transparent image (RGBA)")
def transparent(bench: Bench) -> str:
    pixels = np.dstack([bench.picture(), np.full((16, 16), 255, np.uint8)])
    pixels[:4, :, 3] = 0
    path = bench.save("cat/clear.png", pixels)
    assert (decode(path.read_bytes())[:4] == 255).all()
    return kept_with_the_rest(bench, "cat/clear.png")


@row("Palette image")
def palette(bench: Bench) -> str:
    bench.save("cat/colours.png", Image.fromarray(bench.picture()).quantize(16))
    return kept_with_the_rest(bench, "cat/colours.png")


@row("16 bits a channel")
def deep(bench: Bench) -> str:
    gray = bench.picture()[..., 0]
    path = bench.save("cat/deep.png", Image.fromarray(gray.astype(np.uint16) << 8))
    assert np.array_equal(decode(path.read_bytes())[..., 1], gray)
    return kept_with_the_rest(bench, "cat/deep.png")


@row("Grayscale image")
def grayscale(bench: Bench) -> str:
    bench.save("cat/gray.png", bench.picture()[..., 0])
    return kept_with_the_rest(bench, "cat/gray.png")


@row("Photograph turned by EXIF")
def turned(bench: Bench) -> str:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = bench.save("cat/turned.jpg", bench.picture(32, 24), exif=exif)
    assert decode(path.read_bytes()).shape == (32, 24, 3)
    return kept_with_the_rest(bench, "cat/turned.jpg")


@row("Animation")
def animation(bench: Bench) -> str:
    first, second = (Image.fromarray(bench.picture()) for _ in range(2))
    path = bench.save("cat/moving.webp", first, save_all=True, append_images=[second], lossless=True)
    assert np.array_equal(decode(path.read_bytes()), np.asarray(first))
    return kept_with_the_rest(bench, "cat/moving.webp")


@row("Name in Unicode")
def unicode_name(bench: Bench) -> str:
    bench.save("cat/Kätzchen 猫 🐈.png")
    return kept_with_the_rest(bench, "cat/Kätzchen 猫 🐈.png")


@row("Name with spaces and line breaks")
def newline_name(bench: Bench) -> str:
    bench.save('cat/two words\nand, a "line".png')
    (bench.source / "cat/broken\none.png").touch()
    done = bench.prepare()
    assert done.quarantined == {"cat/broken\none.png"}
    assert done.kept == sound_paths() | {'cat/two words\nand, a "line".png'}
    return done.seen


@row("Name of 255 bytes")
def long_name(bench: Bench) -> str:
    name = f"cat/{'x' * 251}.png"
    bench.save(name)
    return kept_with_the_rest(bench, name)


@row("Name that is not UTF-8")
def bytes_name(bench: Bench) -> str:
    image = bench.save("cat/plain.png")
    try:
        image.rename(os.fsdecode(os.fsencode(image.parent) + b"/caf\xe9.png"))
    except OSError:
        pytest.skip("this file system only takes names in UTF-8")
    return only_quarantined(bench, "cat/caf\\xe9.png")


@row("Link that leads in a circle")
def loops(bench: Bench) -> str:
    """A file and a folder that are links to themselves, and links that lead up, in a class and beside the classes."""
    (bench.source / "cat/self.png").symlink_to("self.png")
    (bench.source / "cat/up").symlink_to("..")
    (bench.source / "around").symlink_to(".")
    (bench.source / "knot").symlink_to("knot")
    return only_quarantined(bench, "cat/self.png")


@row("File that vanishes while it is indexed")
def vanishing(bench: Bench) -> str:
    bench.fill("dog", 450)
    victim = sorted((bench.source / "dog").iterdir())[-1]

    def vanish(_: str, done: int, __: int) -> None:
        if done == 500:
            victim.unlink()

    settings = Settings(home=bench.home)
    index = build_index(fetch_source(str(bench.source), settings), settings.paths, vanish)
    early = read_index(index).query("not decode_ok")
    assert list(early["path"]) == [f"dog/{victim.name}"]
    (bench.source / "cat/00.png").unlink()
    with pytest.raises(VersionError) as stopped:
        build_version(index, early.index, WIDE, settings.paths)
    assert len(bench.prepare().kept) == 2 * PER_CLASS + 450 - 2
    return f"{early['error'].item()}\n{stopped.value}"


@row("File that changes while it is indexed")
def changing(bench: Bench) -> str:
    """One that was read already: the index holds what is no longer there."""
    settings = Settings(home=bench.home)
    bench.fill("dog", 450)
    changed = bench.source / "cat/00.png"

    def change(_: str, done: int, __: int) -> None:
        if done == 500:
            Image.fromarray(bench.picture()).save(changed)

    index = build_index(fetch_source(str(bench.source), settings), settings.paths, change)
    with pytest.raises(VersionError) as stopped:
        build_version(index, (), WIDE, settings.paths)
    assert "cat/00.png" in bench.prepare().kept
    return str(stopped.value)


@row("File that can't be read")
def unreadable(bench: Bench) -> str:
    path = bench.save("cat/locked.png")
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read everything but another address space
        path.unlink()
        path.symlink_to("/proc/self/mem")
    return only_quarantined(bench, "cat/locked.png")


@row("One class missing")
def missing_class(bench: Bench) -> str:
    (bench.source / "zebra").mkdir()
    return bench.refused()


@row("One class with 40 % of all images")
def common_class(bench: Bench) -> str:
    bench.fill("fox", 60)
    bench.fill("dog", 60)  # 120 of 240 … and the cats of 60 make it so
    bench.fill("owl", 60)
    done = bench.prepare()
    shares = version_table(done.version)["label"].value_counts(normalize=True)
    assert shares["dog"] == pytest.approx(0.4)
    assert len(done.kept) == 300
    evened = bench.prepare(parameters=WIDE.model_copy(update={"subset": 100}))
    table = version_table(evened.version)
    assert set(table[table["side"] == "train"]["label"].value_counts()) == {25}
    return done.seen


@row("One image a class")
def single_images(bench: Bench) -> str:
    for folder in list(bench.source.iterdir()):
        for path in sorted(folder.iterdir())[1:]:
            path.unlink()
    return bench.refused()


@row("Two classes")
def two_classes(bench: Bench) -> str:
    done = bench.prepare()
    assert done.version.classes == ("cat", "dog")
    assert done.kept == sound_paths()
    return done.seen


@row("1,000 classes")
def many_classes(bench: Bench) -> str:
    rng = np.random.default_rng(0)
    for number in range(1000):
        for split, images in (("train", 4), ("test", 1)):
            folder = bench.home.parent / "many" / split / f"class {number}"
            folder.mkdir(parents=True)
            for image in range(images):
                (folder / f"{image}.ppm").write_bytes(b"P6 8 8 255\n" + rng.bytes(192))
    done = bench.prepare(bench.home.parent / "many")
    assert len(done.version.classes) == 1000
    assert len(done.kept) == 5000
    return done.seen


@row("Same image under two labels")
def two_labels(bench: Bench) -> str:
    copy = bench.source / "dog/a cat.png"
    copy.write_bytes((bench.source / "cat/05.png").read_bytes())
    return only_quarantined(bench, "cat/05.png", "dog/a cat.png")


@row("Training image in the evaluation side")
def leaking(bench: Bench) -> str:
    for label in ("cat", "dog"):
        for number in range(30):
            old = bench.source / label / f"{number:02}.png"
            new = bench.source / "test" / label / old.name
            new.parent.mkdir(parents=True, exist_ok=True)
            old.rename(new)
        (bench.source / "train").mkdir(exist_ok=True)
        (bench.source / label).rename(bench.source / "train" / label)
    stolen = bench.source / "train/cat/40.png"
    (bench.source / "test/cat/copy.png").write_bytes(stolen.read_bytes())
    done = bench.prepare()
    sides = version_table(done.version).set_index("path")["side"]
    assert sides["test/cat/copy.png"] == "frozen"
    assert list(read_left_out(done.version)["path"]) == ["train/cat/40.png"]
    assert len(sides) == 2 * PER_CLASS
    return done.seen


@row("Empty folder")
def empty_folder(bench: Bench) -> str:
    (bench.source / "nothing").mkdir()
    return bench.refused(bench.source / "nothing")


@row("Sizes from 8 × 8 to 4,000 × 3,000")
def sizes(bench: Bench) -> str:
    names = []
    for width, height in ((8, 8), (8, 500), (1000, 9), (640, 480), (4000, 3000)):
        names.append(f"cat/{width} by {height}.jpg")
        bench.save(names[-1], bench.picture(width, height))
    return kept_with_the_rest(bench, *names)


def packed(bench: Bench, *extra: tuple[tarfile.TarInfo, bytes]) -> Path:
    """The sound source as an archive, and more members after it."""
    archive = bench.home.parent / "photos.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(bench.source, "photos")
        for info, content in extra:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return archive


@row("37 photographs of three classes, one of them broken")
def few_photographs(bench: Bench) -> str:
    """As sides are drawn by the images' content: all of them, all but the validation side, and too few."""
    for seed, name in ((400, "enough"), (1100, "unvalidated"), (1600, "short")):
        bench.seed, bench.source = seed, bench.home.parent / name
        for number in range(37):
            suffix = (".jpg", ".png", ".webp")[number % 3]
            width, height = 40 + 3 * number, 90 - number
            bench.save(f"{('cat', 'dog', 'fox')[number % 3]}/IMG {number}{suffix}", bench.picture(width, height))
        broken = bench.source / "dog/IMG 1.png"
        broken.write_bytes(broken.read_bytes()[:100])
    said = bench.refused()
    for name in ("enough", "unvalidated"):
        done = bench.prepare(bench.source.with_name(name))
        assert done.quarantined == {"dog/IMG 1.png"}
        assert len(done.kept) == 36
    return f"{done.seen}\n{said}"


@row("Archive with ../ in a name")
def climbing(bench: Bench) -> str:
    archive = packed(bench, (tarfile.TarInfo("photos/../../../evil.png"), b"x"))
    said = bench.refused(archive)
    assert not list(bench.home.parent.rglob("evil.png"))
    assert not list(bench.home.glob("data/raw/*"))
    return said


@row("Archive with links")
def linking(bench: Bench) -> str:
    soft, hard = tarfile.TarInfo("photos/cat/soft.png"), tarfile.TarInfo("photos/cat/hard.png")
    soft.type, soft.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard.type, hard.linkname = tarfile.LNKTYPE, "/etc/passwd"
    done = bench.prepare(packed(bench, (soft, b""), (hard, b"")))
    assert {path.removeprefix("photos/") for path in done.kept} == sound_paths()
    assert not [path for path in bench.home.rglob("*") if path.is_symlink()]
    return done.seen


@row("Archive with a bomb")
def archive_bomb(bench: Bench) -> str:
    said = bench.refused(packed(bench, (tarfile.TarInfo("photos/cat/huge.png"), bytes(80 * 1024**2))))
    assert not list(bench.home.glob("data/raw/*"))
    return said

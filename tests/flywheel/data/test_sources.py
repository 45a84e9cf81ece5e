"""What a user asks for becomes a whole folder of class folders, or an error that says what to do."""

import functools
import hashlib
import http.server
import io
import os
import shutil
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flywheel.data import cifar10, sources
from flywheel.data.cifar10 import ARCHIVE, Cifar10Error, records
from flywheel.data.raw import MARK
from flywheel.data.sources import SourceError, fetch_source, safe_name
from flywheel.data.tree import read_tree
from flywheel.records import Source
from flywheel.settings import Settings

NAMES = ("airplane", "automobile")
Make = Callable[..., Path]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", cifar10_url="http://127.0.0.1:9/none", download_timeout=1)


def fake_cifar10(path: Path, per_batch: int = 4) -> str:
    """The official archive's shape with few images; returns its MD5."""
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w:gz") as packed:

        def put(name: str, content: bytes) -> None:
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))

        for name in ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"):
            rows = rng.integers(0, 256, (per_batch, 3073), dtype=np.uint8)
            rows[:, 0] = np.arange(per_batch) % 2
            put(name, rows.tobytes())
        put("batches.meta.txt", ("\n".join(NAMES) + "\n\n").encode())
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The URL of a local mirror and the MD5 of what it serves."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    md5 = fake_cifar10(folder / ARCHIVE)
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{ARCHIVE}", md5
        server.shutdown()
        thread.join()


def test_a_record_is_a_label_and_three_planes() -> None:
    row = bytes([7]) + bytes([1]) * 1024 + bytes([2]) * 1024 + bytes(range(256)) * 4
    images, labels = records(row, "batch")
    assert labels.tolist() == [7]
    assert images.shape == (1, 32, 32, 3)
    assert images[0, 0, 5].tolist() == [1, 2, 5]
    assert images[0, 1, 0].tolist() == [1, 2, 32], "rows of 32 pixels"
    with pytest.raises(Cifar10Error, match=r"multiple of 3,073 bytes expected, 3,072 found"):
        records(row[:-1], "batch")


def test_a_mirror_is_honoured_and_its_bytes_are_checked(
    settings: Settings, mirror: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, md5 = mirror
    external, raw = settings.paths.external, settings.paths.raw("cifar10")
    with pytest.raises(Cifar10Error, match="FLYWHEEL_CIFAR10_URL"):
        cifar10.download(url, external, 5)  # the official checksum, as by default
    assert not (external / ARCHIVE).exists()
    archive = cifar10.download(url, external, 5, md5=md5)
    cifar10.unpack(archive, raw, md5=md5)
    tree = read_tree(raw)
    assert [(file.split, file.label, file.path) for file in tree.files][:3] == [
        ("test", "airplane", "test/airplane/00000.png"),
        ("test", "airplane", "test/airplane/00002.png"),
        ("test", "automobile", "test/automobile/00001.png"),
    ]
    assert len(tree.files) == 12
    with tarfile.open(archive) as packed:
        member = packed.extractfile("cifar-10-batches-bin/data_batch_2.bin")
        assert member is not None
        images, _ = records(member.read(), "batch")
    assert np.array_equal(np.asarray(Image.open(raw / "train/automobile/00005.png")), images[1])
    assert fetch_source("cifar10", settings) == Source("cifar10", raw, "cifar10"), "unpacked: no network needed"
    assert fetch_source("auto", settings).name == "cifar10"


def test_an_archive_that_is_not_the_official_one_is_refused(settings: Settings) -> None:
    settings.paths.external.mkdir(parents=True)
    md5 = fake_cifar10(settings.paths.external / ARCHIVE)
    with pytest.raises(SourceError, match=f"MD5 {cifar10.MD5} expected, {md5} found"):
        fetch_source("cifar10", settings)
    assert not settings.paths.raw("cifar10").exists()


def test_a_silent_host_is_an_error_within_the_timeout_that_says_what_to_do(settings: Settings) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()  # takes connections and never answers
        quiet = settings.model_copy(update={"cifar10_url": f"http://127.0.0.1:{deaf.getsockname()[1]}/x.tar.gz"})
        started = time.monotonic()
        with pytest.raises(SourceError, match="FLYWHEEL_CIFAR10_URL") as caught:
            fetch_source("cifar10", quiet)
        assert time.monotonic() - started < 3
    assert str(settings.paths.external) in str(caught.value)
    assert ARCHIVE in str(caught.value)
    assert list(settings.paths.external.iterdir()) == []


def test_auto_falls_back_to_digits_and_says_so(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    source = fetch_source("auto", settings)
    assert (source.name, source.origin) == ("digits", "auto")
    assert "digits, because CIFAR-10 is not at hand" in source.note
    assert source.note in caplog.text


def test_digits_are_all_there_with_the_same_bytes_every_time(settings: Settings, tmp_path: Path) -> None:
    source = fetch_source("digits", settings)
    tree = read_tree(source.folder)
    assert len(tree.files) == 1797
    assert tree.classes == tuple("0123456789")
    other = fetch_source("digits", settings.model_copy(update={"home": tmp_path / "other"}))
    for file in tree.files[::100]:
        assert (source.folder / file.path).read_bytes() == (other.folder / file.path).read_bytes()
    with Image.open(source.folder / tree.files[0].path) as image:
        assert (image.size, image.mode) == ((32, 32), "L")


def test_a_raw_folder_that_lost_files_is_noticed_and_an_unmarked_one_is_made_again(settings: Settings) -> None:
    folder = fetch_source("digits", settings).folder
    first = next(folder.glob("0/*.png"))
    first.unlink()
    with pytest.raises(SourceError, match=r"1,797 files expected, 1,796 found. Delete the folder"):
        fetch_source("digits", settings)
    (folder / MARK).unlink()  # as a folder looks that was never finished
    assert fetch_source("digits", settings).folder == folder
    assert first.exists()


def test_a_folder_is_used_in_place(settings: Settings, tree: Make) -> None:
    folder = tree("My photos é", count=1)
    before = sorted(folder.rglob("*"))
    assert fetch_source(str(folder), settings) == Source("My-photos-e", folder, str(folder))
    assert sorted(folder.rglob("*")) == before
    assert not settings.paths.raw("x").parent.exists()


@pytest.mark.parametrize("kind", ["gztar", "xztar", "zip"])
def test_an_archive_is_kept_and_unpacked_once(settings: Settings, tree: Make, tmp_path: Path, kind: str) -> None:
    folder = tree("wrapped/photos", count=2)
    archive = Path(shutil.make_archive(str(tmp_path / "photos"), kind, tmp_path / "wrapped"))
    source = fetch_source(str(archive), settings)
    assert source.name == "photos"
    assert source.folder.parent == settings.paths.raw("x").parent
    assert (settings.paths.external / archive.name).read_bytes() == archive.read_bytes()
    unpacked = {file.path: (source.folder / file.path).read_bytes() for file in read_tree(source.folder).files}
    assert unpacked == {f"photos/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*.png")}
    stamps = {path: path.stat().st_mtime_ns for path in source.folder.rglob("*")}
    assert fetch_source(str(archive), settings) == source
    assert {path: path.stat().st_mtime_ns for path in source.folder.rglob("*")} == stamps
    os.utime(archive, ns=(1, 1))  # touched, not changed: the hash says so
    assert fetch_source(str(archive), settings) == source


def test_a_changed_archive_of_the_same_name_is_another_folder(settings: Settings, tree: Make, tmp_path: Path) -> None:
    folder = tree("photos", count=1)
    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", folder)
    first = fetch_source(archive, settings)
    shutil.rmtree(folder)
    Path(archive).unlink()
    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", tree("photos", count=3))
    second = fetch_source(archive, settings)
    assert first.folder != second.folder
    assert len(read_tree(first.folder).files) == 2
    assert len(read_tree(second.folder).files) == 6


@pytest.mark.parametrize("request_", ["no/such/place", "text.txt", "empty"])
def test_what_is_no_source_is_refused_by_name(settings: Settings, tmp_path: Path, request_: str) -> None:
    (tmp_path / "text.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="expected") as caught:
        fetch_source(str(tmp_path / request_), settings)
    assert request_ in str(caught.value)


def test_a_hostile_archive_leaves_nothing_in_raw(settings: Settings, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as packed:
        for name in ("cat/a.jpg", "../evil.jpg"):
            packed.addfile(tarfile.TarInfo(name))
    with pytest.raises(SourceError, match="below its own folder"):
        fetch_source(str(tmp_path / "evil.tar.gz"), settings)
    assert list(settings.paths.raw("x").parent.iterdir()) == []


def test_safe_names_are_plain_and_apart() -> None:
    assert safe_name("CIFAR 10 (é)") == "CIFAR-10-e"
    assert safe_name("../..") != ""
    assert "/" not in safe_name("a/b")
    assert safe_name("猫") != safe_name("犬")
    assert sources.safe_name("猫").startswith("source-")

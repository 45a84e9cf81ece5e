"""CIFAR-10 (Krizhevsky 2009) from its binary version: no pickle, checked against its published checksum.

Archive: 50,000 training and 10,000 test images, each one label byte and 3 × 1,024 bytes of red, green and blue.
"""

import hashlib
import logging
import tarfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flywheel.data.folders import temporary_folder
from flywheel.data.raw import making
from flywheel.progress import Progress, silent

log = logging.getLogger(__name__)

ARCHIVE = "cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d13530"  # of the official archive
BYTES = 170_052_171
SIDE = 32
RECORD_BYTES = 1 + 3 * SIDE * SIDE
MAX_MEMBER_BYTES = 64 * 1024**2  # the largest of the archive has 30,730,000
WATCH_SECONDS = 0.2


class Cifar10Error(ValueError):
    """CIFAR-10 can't be had, or what lies in its place is something else."""


def download(url: str, external: Path, timeout: float, progress: Progress = silent, md5: str = MD5) -> Path:
    """Download the archive into `external`, whole and checked, or raise Cifar10Error.

    `timeout`: seconds without a byte until the host counts as out of reach; name resolution and connection count too.
    Another `md5` than the official one is for tests of mirrors; there is no way to leave the check out.
    """
    with temporary_folder(external, ARCHIVE) as folder:
        error = _download_watched(url, folder, md5, timeout, progress)
        if error:
            raise Cifar10Error(
                f"CIFAR-10: {url} could not be downloaded ({error}). Set FLYWHEEL_CIFAR10_URL to a mirror, "
                f"or put {ARCHIVE} into {external} by hand; 'SOURCE=digits' needs no network."
            )
        (folder / ARCHIVE).replace(external / ARCHIVE)
    return external / ARCHIVE


def unpack(archive: Path, folder: Path, progress: Progress = silent, md5: str = MD5) -> None:
    """Write `<split>/<class>/NNNNN.png`, lossless, under a temporary name that becomes `folder`.

    Raises Cifar10Error for another archive.
    """
    found = _md5_of(archive)
    if found != md5:
        raise Cifar10Error(f"{archive}: MD5 {md5} expected, {found} found. Delete the file, or fetch it again.")
    try:
        with making(folder, archive=archive.name, md5=found) as part:
            _write_images(archive, part, progress)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise Cifar10Error(f"{archive}: the binary version of CIFAR-10 expected, found: {error}.") from error


def records(data: bytes, name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One batch file → images uint8[N, 32, 32, 3] and labels uint8[N]. Raises Cifar10Error for another length."""
    if not data or len(data) % RECORD_BYTES:
        raise Cifar10Error(f"{name}: a multiple of {RECORD_BYTES:,} bytes expected, {len(data):,} found.")
    rows = np.frombuffer(data, np.uint8).reshape(-1, RECORD_BYTES)
    return np.ascontiguousarray(rows[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)), rows[:, 0]


def _download_watched(url: str, folder: Path, md5: str, timeout: float, progress: Progress) -> str:
    """Ask whether the host answers, then download; both in a thread, since no socket timeout covers name resolution.

    Returns what went wrong. A thread that hangs in the network is left behind: it ends with the process, and its folder
    is removed.
    """
    part = folder / ARCHIVE
    error = _in_thread(lambda: _ask(url, timeout), lambda: 0, timeout)
    if error:
        return error
    from torchvision.datasets.utils import download_url  # imports torch: only once the host answered

    def size() -> int:
        found = part.stat().st_size if part.exists() else -1
        progress("download CIFAR-10 (bytes)", max(found, 0), BYTES)
        return found

    return _in_thread(lambda: download_url(url, folder, ARCHIVE, md5), size, timeout, whole=BYTES)


def _md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _in_thread(work: Callable[[], None], size: Callable[[], int], timeout: float, whole: int = -1) -> str:
    """Run `work` until it ends or `size` has not changed for `timeout` seconds; returns what went wrong."""
    errors: list[str] = []

    def attempt() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - a thread's error ends in its list, whatever it is
            errors.append(" ".join(str(error).split()) or type(error).__name__)

    worker = threading.Thread(target=attempt, daemon=True, name="download")
    worker.start()
    last, heard = size(), time.monotonic()
    while worker.is_alive():
        worker.join(WATCH_SECONDS)
        now = size()
        if now != last:
            last, heard = now, time.monotonic()
        # a whole file is being checked, which is silent and not the host's fault
        elif time.monotonic() - heard > timeout and now != whole and worker.is_alive():
            return f"no answer within {timeout:g} s"
    return errors[0] if errors else ""


def _ask(url: str, timeout: float) -> None:
    with urllib.request.urlopen(url, timeout=timeout):  # noqa: S310 - the user's own address, files included
        pass


def _write_images(archive: Path, folder: Path, progress: Progress) -> None:
    names: list[str] = []
    written = {"train": 0, "test": 0}
    for member, data in _members(archive):
        if member == "batches.meta.txt":
            names = data.decode().split()
    if not names:
        raise Cifar10Error(f"{archive}: batches.meta.txt with the class names expected, not found.")
    for member, data in _members(archive):
        if member.endswith(".bin"):
            split = "test" if member.startswith("test") else "train"
            images, labels = records(data, f"{archive}:{member}")
            _write_batch(images, labels, names, folder / split, written[split])
            written[split] += len(images)
            progress("unpack CIFAR-10", sum(written.values()), 60_000)


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each plain file, in an order of its own names."""
    with tarfile.open(archive, "r:gz") as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            content = tar.extractfile(member) if member.isfile() and member.size <= MAX_MEMBER_BYTES else None
            if content is not None:
                yield Path(member.name).name, content.read()


def _write_batch(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], names: list[str], folder: Path, first: int
) -> None:
    if labels.max() >= len(names):
        raise Cifar10Error(f"CIFAR-10: labels below {len(names)} expected, {labels.max()} found.")
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, (image, label) in enumerate(zip(images, labels, strict=True), first):
        Image.fromarray(image).save(folder / names[label] / f"{number:05d}.png", compress_level=1)

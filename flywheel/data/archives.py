"""Unpack an archive that may be hostile.

Members are written as plain files below the target or not at all. Absolute names and `..` are refused; links and
devices are left out; what unpacks to more than the limits is refused while it unpacks, before it fills the disk.
"""

import io
import logging
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from gzip import GzipFile
from pathlib import Path, PurePosixPath
from typing import IO

from flywheel.progress import Progress, silent

log = logging.getLogger(__name__)

SUFFIXES = (".tar.gz", ".tgz", ".tar.xz", ".txz", ".zip")
MAX_UNPACKED_BYTES = 256 * 1024**3  # twice ImageNet; larger sets come as folders
MAX_FILES = 20_000_000  # ImageNet-21k has 14 million
# Images hardly compress (CIFAR-10 as bitmaps: 1.1, drawings as BMP: some 50); a bomb of zeros reaches 1,000 to 7,000.
MAX_RATIO = 100
SMALL_BYTES = 64 * 1024**2  # below this, no ratio is suspicious
CHUNK_BYTES = 1 << 20
PROGRESS_FILES = 500
DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error),
    *(EOFError, OSError, NotImplementedError, UnicodeError),
)


class ArchiveError(ValueError):
    """An archive that is damaged, hostile, or of a kind not read here."""


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def stem_of(path: Path) -> str:
    """The name without `.tar.gz` and its like."""
    suffix = next(suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix))
    return path.name[: -len(suffix)]


def unpack(archive: Path, into: Path, progress: Progress = silent) -> int:
    """Write the archive's files below `into`; returns how many. Raises ArchiveError."""
    try:
        skipped: Counter[str] = Counter()
        members = _zip_members if archive.name.lower().endswith(".zip") else _tar_members
        files = _write(members(archive, skipped), into, archive, progress)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        lzma.LZMAError,
        zlib.error,
        EOFError,
        OSError,
        NotImplementedError,
    ) as error:
        raise ArchiveError(
            f"{archive}: a whole archive expected ({', '.join(SUFFIXES)}), unreadable: {error}. "
            "Check its size or fetch it again."
        ) from error
    for kind, count in sorted(skipped.items()):
        log.warning("%s: left out %d %s: only plain files are unpacked", archive, count, kind)
    return files


def _write(members: Iterator[tuple[str, IO[bytes]]], into: Path, archive: Path, progress: Progress) -> int:
    files = 0
    for name, content in members:
        target = into / _safe_name(name, archive)
        files += 1
        if files > MAX_FILES:
            raise ArchiveError(f"{archive}: at most {MAX_FILES:,} files expected, more found. Unpack it by hand.")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            shutil.copyfileobj(content, file, CHUNK_BYTES)
        if files % PROGRESS_FILES == 0:
            progress("unpack", files, 0)
    progress("unpack", files, files)
    return files


def _safe_name(name: str, archive: Path) -> PurePosixPath:
    """A relative path without `..`; anything else is an attack or a mistake, and refused."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts:
        raise ArchiveError(f"{archive}: names below its own folder expected, found {name!r}. It was not unpacked.")
    return path


class _LimitedReader(io.RawIOBase):
    """Passes on what a decompressor gives, until that is more than the archive may unpack to."""

    def __init__(self, stream: GzipFile | lzma.LZMAFile, archive: Path) -> None:
        self.stream = stream
        self.archive = archive
        self.limit = _limit(archive)
        self.passed = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(CHUNK_BYTES if size < 0 else size)
        self.passed += len(data)
        if self.passed > self.limit:
            raise _too_large(self.archive, self.limit)
        return data


def _limit(archive: Path) -> int:
    return min(MAX_UNPACKED_BYTES, max(SMALL_BYTES, MAX_RATIO * archive.stat().st_size))


def _too_large(archive: Path, limit: int) -> ArchiveError:
    return ArchiveError(
        f"{archive}: at most {limit:,} bytes expected when unpacked ({MAX_RATIO} times its size, "
        f"{MAX_UNPACKED_BYTES:,} in all), more found. If it is what you meant, unpack it by hand and name the folder."
    )


def _tar_members(archive: Path, skipped: Counter[str]) -> Iterator[tuple[str, IO[bytes]]]:
    gzipped = archive.name.lower().endswith("gz")
    with (
        archive.open("rb") as file,
        GzipFile(fileobj=file) if gzipped else lzma.open(file) as stream,
        tarfile.open(fileobj=_LimitedReader(stream, archive), mode="r|") as tar,
    ):
        for member in tar:
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None:
                yield member.name, content
            elif not member.isdir():
                skipped["links" if member.islnk() or member.issym() else "devices"] += 1


def _zip_members(archive: Path, skipped: Counter[str]) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as packed:
        members = [member for member in packed.infolist() if not member.is_dir()]
        limit = _limit(archive)
        if sum(member.file_size for member in members) > limit:
            raise _too_large(archive, limit)
        for member in members:
            if member.flag_bits & 1:
                raise ArchiveError(f"{archive}: an archive without a password expected. Unpack it by hand.")
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in {0, stat.S_IFREG}:
                skipped["links" if kind == stat.S_IFLNK else "devices"] += 1
                continue
            with packed.open(member) as content:
                yield member.filename, content

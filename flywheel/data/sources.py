"""From what the user asked for to a folder of class folders: CIFAR-10, digits, a folder, or an archive of one."""

import hashlib
import logging
import os
import re
import shutil
import unicodedata
from pathlib import Path

from flywheel.data import cifar10, digits
from flywheel.data.archives import ArchiveError, is_archive, stem_of, unpack
from flywheel.data.cifar10 import Cifar10Error
from flywheel.data.folders import temporary_folder
from flywheel.data.raw import RawFolderError, is_whole, making, mark_of
from flywheel.data.tree import TreeError, read_tree
from flywheel.identity import NAME_DIGITS, digest_of_file
from flywheel.paths import Paths
from flywheel.progress import Progress, silent
from flywheel.records import Source
from flywheel.settings import Settings

log = logging.getLogger(__name__)

CIFAR10, DIGITS, AUTO = "cifar10", "digits", "auto"
# `auto` asks whether the host is there and does not wait long: digits are at hand.
AUTO_TIMEOUT_SECONDS = 5.0


class SourceError(ValueError):
    """The source can't be had; the message says what was expected, what was found and what to do."""


def fetch_source(request: str, settings: Settings, progress: Progress = silent) -> Source:
    """Make the requested source ready to be indexed.

    `request` is `auto`, `cifar10`, `digits`, or the path of a folder or archive (the three names win over a path; write
    `./digits` for a folder of that name). Folders are used where they are. Archives are kept in `data/external` and
    unpacked in `data/raw`. `auto` takes CIFAR-10 where it is at hand or can be downloaded, else digits, and says so.
    Raises SourceError.
    """
    try:
        if request == AUTO:
            return _auto(settings, progress)
        if request == CIFAR10:
            return _cifar10(settings, progress, settings.download_timeout)
        if request == DIGITS:
            return _digits(settings, progress)
        return _from_path(request, settings.paths, progress)
    except (ArchiveError, Cifar10Error, RawFolderError, TreeError) as error:
        raise SourceError(str(error)) from error
    except OSError as error:
        raise SourceError(f"{request}: a readable source expected, found: {error}.") from error


def is_named(request: str) -> bool:
    """Whether the request is a name that is known here, not a path."""
    return request in (AUTO, CIFAR10, DIGITS)


def demand_source(request: str) -> None:
    """Raise SourceError for a path that can be no source, before anything else is looked at."""
    path = Path(request).expanduser()
    if is_named(request) or path.is_dir() or (path.is_file() and is_archive(path)):
        return
    found = "another kind of file" if path.exists() else "nothing there"
    raise SourceError(
        f"{request}: {CIFAR10}, {DIGITS}, {AUTO}, or the path of a folder or archive (.tar.gz, .tar.xz, .zip) of class "
        f"folders expected, found {found}."
    )


def _auto(settings: Settings, progress: Progress) -> Source:
    try:
        source = _cifar10(settings, progress, min(settings.download_timeout, AUTO_TIMEOUT_SECONDS))
        return Source(source.name, source.folder, AUTO, note="CIFAR-10, which is at hand or could be downloaded")
    except Cifar10Error as error:
        source = _digits(settings, progress)
        note = f"digits, because CIFAR-10 is not at hand: {error}"
        log.warning("auto: %s", note)
        return Source(source.name, source.folder, AUTO, note=note)


def _cifar10(settings: Settings, progress: Progress, timeout: float) -> Source:
    paths = settings.paths
    folder, archive = paths.raw(CIFAR10), paths.external / cifar10.ARCHIVE
    if not is_whole(folder):
        if not archive.is_file():
            cifar10.download(settings.cifar10_url, paths.external, timeout, progress)
        cifar10.unpack(archive, folder, progress)
    return Source(CIFAR10, folder, CIFAR10)


def _digits(settings: Settings, progress: Progress) -> Source:
    folder = settings.paths.raw(DIGITS)
    if not is_whole(folder):
        digits.unpack(folder, progress)
    return Source(DIGITS, folder, DIGITS)


def _from_path(request: str, paths: Paths, progress: Progress) -> Source:
    demand_source(request)
    path = Path(request).expanduser().resolve()
    if path.is_dir():
        read_tree(path)
        return Source(safe_name(path.name), path, request)
    return _from_archive(path, request, paths, progress)


def _from_archive(archive: Path, request: str, paths: Paths, progress: Progress) -> Source:
    name = safe_name(stem_of(archive))
    folder = _unpacked_before(archive, name, paths)
    if folder is None:
        sha256 = digest_of_file(archive)
        kept = _keep(archive, sha256, paths.external)
        folder = paths.raw(f"{name}-{sha256[:NAME_DIGITS]}")
        if not is_whole(folder):
            stat = archive.stat()
            with making(
                folder, archive=kept.name, sha256=sha256, bytes=stat.st_size, mtime_ns=stat.st_mtime_ns
            ) as part:
                unpack(kept, part, progress)
                read_tree(part)
    return Source(name, folder, request)


def _unpacked_before(archive: Path, name: str, paths: Paths) -> Path | None:
    """The folder of this very file, told by name, size and time, so that a large archive is not hashed every run."""
    stat = archive.stat()
    for folder in sorted(paths.raw(name).parent.glob(f"{name}-*")):
        mark = mark_of(folder)
        if mark and (mark.get("bytes"), mark.get("mtime_ns")) == (stat.st_size, stat.st_mtime_ns) and is_whole(folder):
            return folder
    return None


def _keep(archive: Path, sha256: str, external: Path) -> Path:
    """The archive in `data/external`: a second name of the same bytes where the disk allows it, else a copy."""
    if archive.parent == external.resolve():
        return archive
    kept = external / archive.name
    if kept.exists() and digest_of_file(kept) != sha256:
        kept = external / f"{sha256[:NAME_DIGITS]}-{archive.name}"
    if not kept.exists():
        with temporary_folder(external, archive.name) as folder:
            part = folder / archive.name
            try:
                os.link(archive, part)
            except OSError:
                shutil.copyfile(archive, part)
            part.replace(kept)
    return kept


def safe_name(name: str) -> str:
    """A folder name of ASCII letters, digits, `.`, `_` and `-`; where few are left, a hash keeps names apart."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-.")[:64]
    return safe or f"source-{hashlib.sha256(os.fsencode(name)).hexdigest()[:NAME_DIGITS]}"

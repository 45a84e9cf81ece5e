"""What counts as an image in a folder of class folders: `<class>/*`, or `<split>/<class>/*`.

Names decide alone, no file is opened: a text file named .jpg is listed, and found undecodable later. Left aside and
counted are hidden files, files without an image's suffix (README.txt, Thumbs.db), and images outside class folders.
"""

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from flywheel.data.raw import MARK

log = logging.getLogger(__name__)

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".avif", ".jp2"}
    | {".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
)
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing", "eval"),
}
SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}
NOT_CLASSES = frozenset({"__MACOSX"})  # what macOS puts into archives


class TreeError(ValueError):
    """A folder that is no tree of class folders; the message says what was expected and found."""


@dataclass(frozen=True)
class ImageFile:
    """One image of a source, by its name only."""

    path: str  # relative to the source's folder, with forward slashes, as on disk
    split: str  # train, val, test, or empty where the source has no splits
    label: str  # the class folder's name, in Unicode's composed form (macOS stores the decomposed one)


@dataclass
class Tree:
    """The images of a folder, sorted by (split, label, path), and how many files were left aside, by kind."""

    files: list[ImageFile]
    classes: tuple[str, ...]  # every class folder, those without an image too: the suite says that they miss theirs
    ignored: Counter[str] = field(default_factory=Counter)


def read_tree(folder: Path) -> Tree:
    """List the images of a folder. Raises TreeError where there are no class folders with images."""
    ignored: Counter[str] = Counter()
    root, prefix = _unwrapped(folder)
    files: list[ImageFile] = []
    classes: set[str] = set()
    for class_folder, split, inner in _class_folders(root):
        label = unicodedata.normalize("NFC", printable(class_folder.name))
        classes.add(label)
        for name in _images_below(class_folder, ignored):
            files.append(ImageFile(f"{prefix}{inner}{class_folder.name}/{name}", split, label))
    _count_outside(root, ignored)
    if not files:
        raise TreeError(
            f"{folder}: <class>/<image> or <split>/<class>/<image> expected, no image in a class folder found"
            f"{_in_words(ignored)}. Put the images of each class in a folder named after the class."
        )
    if ignored:
        log.info("%s: files left aside%s", folder, _in_words(ignored))
    files.sort(key=lambda file: (file.split, file.label, file.path))
    return Tree(files, tuple(sorted(classes)), ignored)


def printable(name: str) -> str:
    """A file name as valid Unicode; bytes that are none become escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _unwrapped(folder: Path) -> tuple[Path, str]:
    """Descend through single folders that hold only folders, as archives often have on top."""
    prefix = ""
    while len(inner := _folders(folder)) == 1 and inner[0].name.lower() not in SPLIT_OF and _folders(inner[0]):
        folder, prefix = inner[0], f"{prefix}{inner[0].name}/"
    return folder, prefix


def _class_folders(root: Path) -> Iterator[tuple[Path, str, str]]:
    """(class folder, split, path from the root to it)."""
    tops = _folders(root)
    splits = [top for top in tops if top.name.lower() in SPLIT_OF and _folders(top)]
    if not splits:
        yield from ((top, "", "") for top in tops)
        return
    beside = [top.name for top in tops if top not in splits and any(_images_below(top, Counter()))]
    if beside:
        raise TreeError(
            f"{root}: {', '.join(top.name for top in splits)} look like splits, but {', '.join(sorted(beside))} beside "
            f"them hold images too. Expected only splits ({', '.join(sorted(SPLIT_OF))}) or only classes at one level."
        )
    for top in splits:
        yield from ((inner, SPLIT_OF[top.name.lower()], f"{top.name}/") for inner in _folders(top))


def _folders(folder: Path) -> list[Path]:
    """Visible folders, links to folders included, by name; a link that leads back up or to itself is none."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not _is_hidden(entry.name) and _is_folder(entry)]
    return [folder / name for name in sorted(names) if name not in NOT_CLASSES]


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir() and not (entry.is_symlink() and _leads_up(Path(entry.path)))
    except OSError:  # a link to itself
        return False


def _leads_up(link: Path) -> bool:
    here = link.parent.resolve()
    return link.resolve() in (here, *here.parents)


def _images_below(folder: Path, ignored: Counter[str]) -> Iterator[str]:
    """Names relative to the class folder, at any depth; links to folders are not followed further down."""
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        inner = os.path.relpath(here, folder).replace(os.sep, "/")
        for name in sorted(names):
            kind = _kind_of_ignored(name)
            if kind:
                ignored[kind] += 1
            else:
                yield name if inner == "." else f"{inner}/{name}"


def _count_outside(root: Path, ignored: Counter[str]) -> None:
    """Files beside the class folders belong to no class."""
    folders = [root, *(top for top in _folders(root) if top.name.lower() in SPLIT_OF and _folders(top))]
    for folder in folders:
        for entry in os.scandir(folder):
            if entry.name != MARK and os.path.isfile(entry.path):  # noqa: PTH113 - a link to itself is no error here
                ignored[_kind_of_ignored(entry.name) or "image outside a class folder"] += 1


def _kind_of_ignored(name: str) -> str:
    """Empty for an image's name."""
    if _is_hidden(name):
        return "hidden"
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path a name costs more than the listing
    return "" if suffix in SUFFIXES else printable(suffix) or "no suffix"


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _in_words(ignored: Counter[str]) -> str:
    listed = ", ".join(f"{count:,} {kind}" for kind, count in sorted(ignored.items()))
    return f": {listed}" if listed else ""

"""What a Bento ships: the source files that its service reaches by imports, and the exact packages they need."""

import ast
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

from flywheel.identity import digest_of_file, digest_of_lines

ROOMS = ("flywheel", "bentos")
ENTRY = "bentos.classifier.service"
DESCRIPTION = Path("bentos/classifier/README.md")
MIGRATIONS = Path("flywheel/ledger/migrations")  # Alembic finds them by their place, so no import leads there
PACKAGES = (  # those that the shipped files import, and what timm and FastAPI need of them; BentoML adds itself
    "torch",
    "torchvision",
    "timm",
    "onnxruntime",
    "safetensors",
    "numpy",
    "pillow",
    "simplejpeg",
    "pydantic",
    "pydantic-settings",
    "fastapi",
    "python-multipart",
    "prometheus-client",
    "psutil",
    "uvloop",  # uvicorn takes these two where they are: half of a request's time
    "httptools",
    "sqlalchemy",  # the prediction log
    "alembic",
    "psycopg",
    "psycopg-binary",
)


def shipped_files(root: Path) -> list[Path]:
    """The entry, every file of the rooms that it imports, also inside a function, and the README; relative, sorted."""
    found: set[Path] = set()
    waiting = [*_files_of(ENTRY, root), *(path.relative_to(root) for path in (root / MIGRATIONS).rglob("*.py"))]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting.extend(_imported_files(file, root))
    return sorted(found | {DESCRIPTION})


def pinned_packages() -> list[str]:
    """`name==version` as installed here, without a local build label: an index has none."""
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in PACKAGES]


def contents_version(root: Path) -> str:
    """The digest of all that a Bento is made of besides its model."""
    files = (f"{file.as_posix()} {digest_of_file(root / file)}" for file in shipped_files(root))
    return digest_of_lines([*files, *pinned_packages(), f"bentoml=={importlib.metadata.version('bentoml')}"])


def imported_modules(source: str) -> Iterator[str]:
    """Dotted names that a source imports; `from a import b` gives both `a` and `a.b`, as b may be a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _imported_files(file: Path, root: Path) -> Iterator[Path]:
    for module in imported_modules((root / file).read_text(encoding="utf-8")):
        yield from _files_of(module, root)


def _files_of(module: str, root: Path) -> Iterator[Path]:
    """A module's file and those of the packages above it, where they are ours."""
    parts = module.split(".")
    if parts[0] in ROOMS:
        packages = [Path(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
        candidates = [*packages, Path(*parts).with_suffix(".py")]
        yield from (candidate for candidate in candidates if (root / candidate).is_file())

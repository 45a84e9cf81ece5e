"""Identity is content: a name is a prefix and the first 12 hex digits of a SHA-256.

What is hashed is canonical JSON (sorted keys, no spaces), so the same content gives the same name on any machine.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

NAME_DIGITS = 12
CHUNK_BYTES = 1 << 20


def canonical_json(content: object) -> str:
    """One text for one content. Raises ValueError on NaN or infinity, which have no JSON."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(content: object) -> str:
    """All 64 hex digits of the content's SHA-256."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def name_of(prefix: str, content: object) -> str:
    """`name_of("ds", rows)` is `ds-` and 12 hex digits."""
    return f"{prefix}-{digest(content)[:NAME_DIGITS]}"


def digest_of_lines(lines: Iterable[str]) -> str:
    """The digest of many short strings without one large text in memory. A line holds no newline."""
    hasher = hashlib.sha256()
    for line in lines:
        hasher.update(line.encode())
        hasher.update(b"\n")
    return hasher.hexdigest()


def digest_of_file(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()


def code_version(package: Path, rooms: Iterable[str]) -> str:
    """The hash of the Python files under the named rooms of a package, where a room may be a single file.

    Not the commit: a change of a README must not make every model a new one.
    """
    found = (package / room for room in rooms)
    files = sorted(path for room in found for path in ([room] if room.is_file() else room.rglob("*.py")))
    return digest_of_lines(f"{path.relative_to(package).as_posix()} {digest_of_file(path)}" for path in files)

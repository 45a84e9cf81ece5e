"""The environments of the programs that a benchmark compares with: one each, from `peers/<name>.txt`.

They lie in `.flywheel/peers`, which git ignores, are made by uv on the first use, and are kept while their file and the
Python stay the same. A peer that can't be installed ends the benchmark: a figure is measured or it is not there.
"""

import hashlib
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

PEERS = Path(__file__).resolve().parent / "peers"
ENVIRONMENTS = PEERS.parent.parent / ".flywheel" / "peers"
WHOLE = ".whole"  # written last
INSTALL_SECONDS = 1200.0


class PeerError(SystemExit):
    """Ends the benchmark for a peer that isn't there; the message says why and what to do."""


def python_of(name: str) -> Path:
    """The Python of the environment that `peers/<name>.txt` describes, made where need be. Raises PeerError."""
    requirements = PEERS / f"{name}.txt"
    if not requirements.is_file():
        known = ", ".join(sorted(file.stem for file in PEERS.glob("*.txt")))
        raise PeerError(f"{requirements}: the peer's pinned packages expected, nothing found. There are: {known}.")
    made_of = requirements.read_bytes() + platform.python_version().encode()
    folder = ENVIRONMENTS / f"{name}-{hashlib.sha256(made_of).hexdigest()[:12]}"
    if not (folder / WHOLE).is_file():
        print(f"peer {name}: installing {requirements.name} into {folder}", flush=True)
        _make(name, folder, requirements)
    return folder / "bin" / "python"


def _make(name: str, folder: Path, requirements: Path) -> None:
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    if not Path(uv).is_file():
        raise PeerError(f"peer {name}: uv expected on the PATH or in this environment, none found. Run 'make install'.")
    shutil.rmtree(folder, ignore_errors=True)
    _run(name, [uv, "venv", "-q", "--python", sys.executable, str(folder)])
    python = str(folder / "bin" / "python")
    _run(name, [uv, "pip", "install", "-q", "--compile-bytecode", "--python", python, "-r", str(requirements)])
    (folder / WHOLE).touch()


def _run(name: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if done.returncode:
        raise PeerError(
            f"peer {name}: its environment could not be made ({' '.join(command[:3])} ended with exit code "
            f"{done.returncode}). It needs a package index once.\n{done.stderr.strip()}"
        )


def with_own_packages(python: Path) -> Path:
    """The same Python, which after its own packages finds this environment's: torch is 5 GB, and the same for both."""
    (packages,) = (python.parent.parent / "lib").glob("python*/site-packages")
    own = sysconfig.get_path("purelib")
    (packages / "flywheel-peers.pth").write_text(f"{own}\n", encoding="utf-8")
    return python

"""One finished run of the main job for all tests that look at what it leaves, in a workspace of its own."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
Make = Callable[..., subprocess.CompletedProcess[str]]

# What a user's shell would not have set: every tool must find its home in the workspace by itself.
FOREIGN = ("FLYWHEEL_", "PREFECT_", "BENTOML_", "WANDB_", "MAKE", "MFLAGS", "PYTEST_")


def clean_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {**kept, "COLUMNS": "200"}


def copy_of_the_project(folder: Path) -> Path:
    """The files that git would give a stranger, with this checkout's `.venv`."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv", target_is_directory=True)
    return folder


# begun first, so that no process is left with a long file when the others are done
LONGEST = ("tests/test_readme.py", "tests/deployments/test_up.py", "tests/deployments/test_resume.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {str(ROOT / name): place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(str(item.path), len(LONGEST)))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # here and not in the copy: an install from there would tie this environment to a folder that goes away
    subprocess.run(["make", "install"], cwd=ROOT, env=clean_environment(), check=True, capture_output=True)
    return copy_of_the_project(tmp_path_factory.mktemp("workspace") / "fly wheel")


@pytest.fixture(scope="session")
def make(workspace: Path) -> Make:
    """Run `make …` in the workspace as a user would; returns what it printed."""

    def run(*arguments: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", *arguments],
            cwd=workspace,
            env={**clean_environment(), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def finished_run(make: Make) -> str:
    """What the first `make run` printed, on digits and for one epoch."""
    done = make("run", "SOURCE=digits", "EPOCHS=1")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def free_port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def two_ports() -> tuple[int, int]:
    first, second = free_ports(2)
    return first, second


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's own folder: three classes of real scans, in sizes and formats as they come."""
    from PIL import Image
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("mine") / "my photos"
    digits = load_digits()
    kept = [(image, label) for image, label in zip(digits.images, digits.target, strict=True) if label < 3]
    for number, (image, label) in enumerate(kept):
        suffix = (".png", ".jpg", ".webp")[number % 3]
        picture = Image.fromarray((image * 15.9375).astype("uint8")).resize((40 + number % 50, 40 + number % 30))
        path = folder / ("zero", "one", "two")[label] / f"scan {number:03d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    return folder

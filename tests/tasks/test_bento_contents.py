"""What a Bento ships: the files reached by imports, at any depth, and a version that follows their content."""

import importlib.metadata
import sys
from pathlib import Path

import pytest

from flywheel.settings import PROJECT
from tasks import bento_contents
from tasks.bento_contents import contents_version, imported_modules, pinned_packages, shipped_files

SOURCES = {
    "bentos/__init__.py": "",
    "bentos/classifier/__init__.py": "",
    "bentos/classifier/README.md": "# classifier",
    "bentos/classifier/service.py": "import json\n\ndef load():\n    from flywheel.model.inference import load_model\n",
    "bentos/classifier/unused.py": "import torch\n",
    "flywheel/__init__.py": "",
    "flywheel/model/__init__.py": "",
    "flywheel/model/inference.py": "import numpy\nfrom flywheel import records\n",
    "flywheel/model/training.py": "import wandb\n",
    "flywheel/records.py": "",
    "flywheel/ledger.py": "",
}
NEEDED = [
    "bentos/__init__.py",
    "bentos/classifier/README.md",
    "bentos/classifier/__init__.py",
    "bentos/classifier/service.py",
    "flywheel/__init__.py",
    "flywheel/model/__init__.py",
    "flywheel/model/inference.py",
    "flywheel/records.py",
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, source in SOURCES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    return tmp_path


def test_only_what_the_service_reaches_is_shipped_also_by_an_import_in_a_function(project: Path) -> None:
    assert [file.as_posix() for file in shipped_files(project)] == NEEDED


def test_the_version_follows_a_shipped_file_and_no_other(project: Path) -> None:
    before = contents_version(project)
    (project / "flywheel" / "ledger.py").write_text("a = 1\n")
    (project / "flywheel" / "model" / "training.py").write_text("a = 1\n")
    assert contents_version(project) == before
    (project / "flywheel" / "records.py").write_text("a = 1\n")
    assert contents_version(project) != before


def test_the_version_follows_a_pin(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents_version(project)
    monkeypatch.setattr(bento_contents, "PACKAGES", bento_contents.PACKAGES[:-1])
    assert contents_version(project) != before


def test_every_package_that_the_shipped_files_import_is_pinned() -> None:
    sources = [PROJECT / file for file in shipped_files(PROJECT) if file.suffix == ".py"]
    names = {name.partition(".")[0] for source in sources for name in imported_modules(source.read_text())}
    foreign = names - set(sys.stdlib_module_names) - {"flywheel", "bentos"}
    distributions = importlib.metadata.packages_distributions()
    needed = {distributions[name][0].lower().replace("_", "-") for name in foreign}
    assert "torch" in needed
    pinned = {pin.partition("==")[0] for pin in pinned_packages()}
    brought_by_another = {"starlette": "fastapi", "pydantic-core": "pydantic", "bentoml": "itself"}
    assert needed - pinned <= set(brought_by_another)


def test_pins_are_exact_and_carry_no_local_build_label() -> None:
    for pin in pinned_packages():
        name, _, version = pin.partition("==")
        assert version
        assert "+" not in version
        assert importlib.metadata.version(name).startswith(version)

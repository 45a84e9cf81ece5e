"""What the service's modules need: the shipped files alone, without the flows' packages, and torch in workers only."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.settings import PROJECT
from tasks.bento_contents import shipped_files

NOT_IN_THE_BENTO = ["prefect", "wandb", "great_expectations", "pandas", "sklearn", "matplotlib", "faiss"]

BLOCKED_IMPORT = f"""
import sys
from pathlib import Path
sys.modules.update(dict.fromkeys({NOT_IN_THE_BENTO!r}))  # None there makes an import fail
sys.path.insert(0, str(Path.cwd()))
"""


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that a Bento ships, and nothing else."""
    folder = tmp_path_factory.mktemp("shipped")
    for file in shipped_files(PROJECT):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / file, folder / file)
    return folder


def run_there(folder: Path, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED_IMPORT + code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_blocked_packages_really_are_out_of_reach(shipped: Path) -> None:
    code = "import importlib.util\ntry:\n    import pandas\nexcept ModuleNotFoundError as error:\n    print(error)"
    assert "pandas" in run_there(shipped, code)


def test_the_process_that_starts_workers_imports_no_torch(shipped: Path) -> None:
    code = "import bentos.classifier.service as s; print(s.__file__); print({'torch', 'timm'} & set(sys.modules))"
    file, heavy = run_there(shipped, code).splitlines()
    assert Path(file).is_relative_to(shipped)
    assert heavy == "set()"


def test_a_worker_runs_on_the_shipped_files_and_packages_alone(shipped: Path) -> None:
    code = (
        "import bentos.classifier.start, flywheel.model.inference as inference, flywheel.model.architecture as a\n"
        "a.create('airbench_small', 3, 32)\n"
        "print(inference.__file__)"
    )
    assert Path(run_there(shipped, code).splitlines()[-1]).is_relative_to(shipped)


def test_importing_the_decoder_needs_neither_pandas_nor_torch(shipped: Path) -> None:
    code = "import flywheel.data.decode; print([name for name in ('torch', 'pandas', 'timm') if sys.modules.get(name)])"
    assert run_there(shipped, code) == "[]"


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        (
            "KEYS",
            "alice:predict:2short",
            "FLYWHEEL_SERVICE_KEYS, entry 1: a secret of at least 16 characters expected.",
        ),
        ("WORKERS", "0", "FLYWHEEL_SERVICE_WORKERS: Input should be greater than or equal to 1."),
    ],
)
def test_a_bad_setting_is_told_in_a_sentence(shipped: Path, setting: str, value: str, message: str) -> None:
    environment = {**os.environ, f"FLYWHEEL_SERVICE_{setting}": value}
    command = [sys.executable, "-P", "-c", BLOCKED_IMPORT + "import bentos.classifier.service"]
    done = subprocess.run(command, cwd=shipped, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert "Traceback" not in done.stderr
    assert "2short" not in done.stderr

"""The installer mends a half-made virtual environment. Offline: it ends where it would fetch its first package."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from flywheel.settings import PROJECT

TOOLS = ("/usr/bin", "/bin")


def install(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.pathsep.join(TOOLS), "PYTHON_FOR_VENV": sys.executable, "PIP_NO_INDEX": "1"}
    command = ["sh", str(PROJECT / ".ci" / "install"), str(folder), str(folder / ".installed-test")]
    return subprocess.run(command, cwd=folder.parent, env=environment, capture_output=True, text=True, check=False)


def has_pip(folder: Path) -> bool:
    command = [str(folder / "bin" / "python"), "-m", "pip", "--version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(any(Path(tools, "uv").exists() for tools in TOOLS), reason="with uv on the PATH no pip is needed")
def test_a_virtual_environment_without_pip_is_made_again_and_a_whole_one_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "a venv"
    venv.create(folder, with_pip=False)
    assert not has_pip(folder)
    for _ in range(2):
        done = install(folder)
        assert "No module named pip" not in done.stderr
        assert "No matching distribution found for uv" in done.stderr
        assert done.returncode != 0
        assert has_pip(folder)
        assert not (folder / ".installed-test").exists()
        (folder / "kept").touch(exist_ok=True)
    assert (folder / "kept").exists()

"""Notebooks run from top to bottom on a real dataset version, and are kept without what they printed."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from flywheel.data.index import build_index
from flywheel.data.sources import fetch_source
from flywheel.data.versions import build_version, read_left_out
from flywheel.records import DatasetVersion
from flywheel.settings import DataParameters, Settings

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetVersion:
    """A version of scikit-learn's digits in a home that the notebook's kernel finds, and all tools' files in it."""
    for name in ("FLYWHEEL_HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    settings = Settings()
    index = build_index(fetch_source("digits", settings), settings.paths)
    return build_version(index, (), DataParameters(source="digits"), settings.paths)


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_outputs_are_kept(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert outputs(notebook) == []
    assert {cell.execution_count for cell in notebook.cells if cell.cell_type == "code"} == {None}


def test_a_dataset_version_is_explored(digits: DatasetVersion) -> None:
    notebook = nbformat.read(FOLDER / "1.0-explore-a-dataset-version.ipynb", as_version=4)
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    ).execute()
    shown = outputs(notebook)
    texts = [output.get("text") or output["data"]["text/plain"] for output in shown]
    assert digits.id in texts[0]
    assert str(digits.counts["frozen"]) in texts[1]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 3
    near = read_left_out(digits).query("why.str.startswith('a near duplicate')")
    assert len(near) > 0
    assert all(path in texts[-2] for path in near["path"])
    assert "nan" not in texts[-2].lower()

"""The documentation builds without a warning and a network, and leaves out nothing that a user can set or meet."""

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from bentos.classifier.settings import ServiceSettings
from docs.generated import fields_table, stages, suite_expectations
from flows.command_line import options
from flywheel.paths import Paths
from flywheel.settings import (
    MonitorParameters,
    RehearsalParameters,
    ReleaseParameters,
    RetrainParameters,
    Settings,
    TrainingParameters,
)

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {path: path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md")) if "_build" not in path.parts}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
COMMANDS = [
    (path.relative_to(DOCS).as_posix(), line.removeprefix("$ "))
    for path, text in PAGES.items()
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    for line in block.splitlines()
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make docs` does it, warnings being errors, into a folder of its own."""
    (recipe,) = re.findall(r"^docs:.*\n\t@\$\(PYTHON\) (.*)$", MAKEFILE, re.MULTILINE)
    assert "-W" in recipe.split()
    out = tmp_path_factory.mktemp("docs")
    command = [sys.executable, *recipe.replace("docs/_build/html", str(out)).split(), "-d", str(out / ".doctrees")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def text_of(built: Path, page: str) -> str:
    """What a reader sees of a page, in one line."""
    article = (built / page).read_text(encoding="utf-8").partition("<article")[2].partition("</article")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", article)).split())


def shown(text: str | None) -> str:
    """A text of the code as a page shows it: in one line, code without its marks."""
    return " ".join(str(text).replace("`", "").split())


def test_pages_load_nothing_from_elsewhere(built: Path) -> None:
    pages = list(built.rglob("*.html"))
    assert len(pages) > len(PAGES) - 1
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"([^\"]+)\"", text)
        loaded += re.findall(r"<link[^>]*\shref=\"([^\"]+)\"", text)
        assert loaded
        assert [address for address in loaded if "//" in address] == []
    for style in built.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text(encoding="utf-8"))


def test_every_parameter_is_there(built: Path) -> None:
    page = text_of(built, "parameters.html")
    for name, (_, field) in options(TrainingParameters).items():
        assert name.upper() in page
        assert shown(field.description) in page
    for name in ReleaseParameters.model_fields:
        assert name.upper() in page


@pytest.mark.parametrize("model", [Settings, ServiceSettings])
def test_every_setting_is_there(built: Path, model: type[BaseModel]) -> None:
    page = text_of(built, "settings.html")
    for name, field in model.model_fields.items():
        assert f"{model.model_config['env_prefix']}{name}".upper() in page
        assert shown(field.description) in page


@pytest.mark.parametrize(("suite", "fewest"), [("images", 20), ("splits", 20), ("predictions", 20), ("labels", 8)])
def test_every_expectation_is_there_with_its_next_step(built: Path, suite: str, fewest: int) -> None:
    page = text_of(built, "expectations.html")
    expectations = suite_expectations(suite)
    assert len(expectations) >= fewest
    for one in expectations:
        assert shown(one.description) in page
        assert shown(one.meta["next_step"]) in page
    assert "where decode_ok == True and conflicting == False" in page or suite != "images"


def test_every_flow_has_its_page_and_every_stage_is_told(built: Path) -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "flows").glob("*.py")))
    flows = re.findall(r"@flow\(\s*name=\"([a-z-]+)\"", sources)
    assert {"prepare-data", "train-classifier", "release-classifier"} <= set(flows)
    for flow in flows:
        page = text_of(built, f"flows/{flow}.html")
        for part in ("Reads", "Leaves", "Fails"):
            assert part in page
    told = text_of(built, "flows/train-classifier.html")
    assert len(stages()) > 10
    for name, meaning in stages():
        assert name in told
        assert meaning
        assert shown(meaning) in told


def test_every_route_is_there(built: Path) -> None:
    page = text_of(built, "service.html")
    for route in ("POST /classify ", "POST /classify_batch", "GET /model"):
        assert route in page


def test_every_folder_is_told() -> None:
    page = (DOCS / "files.md").read_text(encoding="utf-8")
    paths = Paths(Path())
    names = {"source": "<source>", "index_id": "<idx-…>", "dataset_id": "<ds-…>", "model_id": "<model-…>"}
    names |= {"evaluation_id": "<eval-…>", "decision_id": "<dec-…>", "image_id": "ab…", "task_id": "<task-…>"}
    names |= {"name": "<name>"}
    for name, kind in vars(Paths).items():
        if isinstance(kind, property):
            assert f"`{getattr(paths, name).as_posix()}" in page, name
        elif callable(kind) and not name.startswith("_"):
            (argument,) = (one for one in kind.__annotations__ if one != "return")
            assert f"`{getattr(paths, name)(names[argument]).as_posix()}`" in page, name


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_every_command_is_a_target_with_its_parameters(page: str, command: str) -> None:
    program, target, *given = command.split()
    assert program == "make"
    assert target in TARGETS
    recipe = MAKEFILE.partition(f"\n{target}:")[2].partition("\n\n")[0]
    known = set(re.findall(r"[A-Z_]+", recipe))
    if "PARAMETERS" in known:
        known = {name.upper() for name in options(TrainingParameters)}
    for mark, model in (
        ("WATCHED", MonitorParameters),
        ("RETRAINED", RetrainParameters),
        ("REHEARSED", RehearsalParameters),
    ):
        if mark in known:
            known = {name.upper() for name in options(model)}
    names = [parameter.partition("=")[0] for parameter in given]
    assert set(names) <= known, page


def test_every_target_that_pages_name_is_there() -> None:
    named = {target for text in PAGES.values() for target in re.findall(r"\bmake ([a-z][a-z-]*)`", text)}
    assert named
    assert named <= TARGETS


def test_figures_of_duplicates_are_those_of_the_detector() -> None:
    """Every number of its docstring that is a recall or a share stands on the page."""
    from flywheel.data import duplicates

    page = (DOCS / "duplicates.md").read_text(encoding="utf-8")
    measured = re.findall(r"\b\d\.\d{3}\b|\b\d\.\d %", str(duplicates.__doc__))
    assert len(measured) >= 6
    for number in (*measured, f"{duplicates.SIMILARITY:g}", f"{duplicates.EVIDENCE:g} standard"):
        assert number in page, number


def test_a_field_tells_its_bounds_and_choices() -> None:
    table = fields_table("flywheel.settings.Recipe")
    assert "| `EPOCHS` | whole number, ≥ 1, ≤ 1,000 | `5` | Passes over the training side. |" in table
    assert "| `SCHEDULE` | `triangle`, `cosine`, `constant` | `triangle` | How the learning rate falls. |" in table
    subset = fields_table("flywheel.settings.DataParameters")
    assert "| `SUBSET` | whole number or `all`, ≥ 2, ≤ 100,000,000 | `10000` |" in subset
    home = fields_table("flywheel.settings.Settings")
    assert "| `FLYWHEEL_HOME` | path | the project's folder |" in home
    assert str(ROOT) not in home

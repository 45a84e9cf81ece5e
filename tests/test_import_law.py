"""Arrows point down: the floors of the house, read from every file's imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What each floor may import of the project. Inside the core a room may import itself and what is named here.
FLOORS = {
    "flows": {"flows", "tasks", "expectations", "flywheel"},
    "tasks": {"tasks", "expectations", "flywheel"},
    "expectations": {"expectations", "flywheel"},
    "bentos": {"bentos", "flywheel"},
    "flywheel": {"flywheel"},
}
BOTTOM = {"identity", "records", "policies", "settings", "paths", "progress", "hosts", "reasons", "units"}
CORE = {
    **dict.fromkeys(BOTTOM, BOTTOM),
    "data": BOTTOM,
    "model": BOTTOM | {"data"},
    "evaluation": BOTTOM | {"data", "model"},
    "figures": BOTTOM | {"data", "model", "evaluation"},
    "report": BOTTOM | {"data", "model", "evaluation", "figures", "monitoring"},
    "ledger": BOTTOM,
    "lineage": BOTTOM | {"data", "model", "evaluation", "ledger", "runtime"},
    "runtime": BOTTOM | {"data", "model", "evaluation"},
    "commands": BOTTOM | {"evaluation", "ledger", "lineage"},
    "presets": BOTTOM,
    "monitoring": BOTTOM | {"data", "model", "evaluation"},
    "labels": BOTTOM | {"ledger", "monitoring"},
}
SHELL_ONLY = {"prefect", "wandb", "bentoml", "great_expectations", "fastapi", "starlette"}
HEAVY = {"torch", "torchvision", "timm", "prefect", "bentoml", "great_expectations", "wandb", "matplotlib", "sklearn"}
LIGHT = [*sorted(BOTTOM), "ledger", "commands", "data.decode", "data.sources"]


def sources() -> list[Path]:
    return sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every dotted name that a file imports, wherever in it the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute, so that an arrow can be read"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", sources(), ids=relative)
def test_no_arrow_runs_up(path: Path) -> None:
    floor = path.relative_to(ROOT).parts[0]
    reached = {name.split(".")[0] for name in imported(path)} & set(FLOORS)
    assert reached <= FLOORS[floor], f"{relative(path)} imports {sorted(reached - FLOORS[floor])}"


@pytest.mark.parametrize("path", sorted((ROOT / "flywheel").rglob("*.py")), ids=relative)
def test_the_core_holds_its_floors_and_no_tool(path: Path) -> None:
    room = path.relative_to(ROOT / "flywheel").parts[0].removesuffix(".py")
    names = imported(path)
    assert not {name.split(".")[0] for name in names} & SHELL_ONLY
    if room != "__init__":
        rooms = {name.split(".")[1] for name in names if name.startswith("flywheel.") and name.count(".")}
        rooms &= set(CORE)
        assert room in CORE, f"{room} is a new room: give it a floor in CORE"
        assert rooms <= CORE[room] | {room}, f"{relative(path)} reaches {sorted(rooms - CORE[room] - {room})}"


def test_light_modules_import_nothing_heavy() -> None:
    modules = ", ".join(f"flywheel.{name}" for name in LIGHT)
    code = f"import sys, {modules}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_importing_leaves_no_trace(tmp_path: Path) -> None:
    code = "import flows, flywheel.settings, flywheel.ledger, flywheel.data.sources"
    environment = {"FLYWHEEL_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    assert list(tmp_path.iterdir()) == []

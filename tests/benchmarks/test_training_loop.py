"""The parts of the benchmark that measure and refuse; its figures are measured by `make bench NAME=training_loop`."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import timm_train
from benchmarks.peers import PEERS, PeerError
from benchmarks.results import RESULTS
from benchmarks.timm_train import demand_checkout
from benchmarks.training_loop import Bench, ends_an_epoch, main, prepare, program
from benchmarks.training_programs import PROGRAMS, Job
from benchmarks.turns import Program, TurnError, ratio, take_turns
from flywheel.model.checkpoint import find_checkpoints
from flywheel.settings import Recipe
from tests.conftest import ROOT

BURN = """
import time
for _ in range(3):
    until = time.process_time() + {seconds}
    while time.process_time() < until:
        pass
    print("done", flush=True)
"""


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with a train.py, as if it were timm's."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    (folder / "train.py").write_text("print(1)\n", encoding="utf-8")
    git(folder, "init", "-q")
    git(folder, "add", "train.py")
    git(folder, "commit", "-q", "-m", "one")
    return folder


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Thirty images a class of two classes, prepared as the benchmark's are."""
    rng = np.random.default_rng(0)
    for name, shade in (("dark", 0), ("light", 120)):
        folder = tmp_path / "source" / "train" / name
        folder.mkdir(parents=True)
        for number in range(30):
            pixels = rng.integers(shade, shade + 130, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).resize((40, 40)).save(folder / f"{number}.png")
    home = tmp_path / "home"
    home.mkdir()
    return prepare(str(tmp_path / "source"), 32, tmp_path, home)


@pytest.mark.parametrize(
    "missing", [None, Path("/nowhere/at/all")], ids=["no checkout is named", "the checkout isn't there"]
)
def test_an_absent_peer_is_an_error_that_says_how_to_get_it(missing: Path | None) -> None:
    with pytest.raises(
        PeerError, match=r"PEER_TIMM.*git clone --branch v\d\S* https://.*make bench NAME=training_loop"
    ):
        demand_checkout(missing)


def test_the_benchmark_ends_with_that_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["training_loop", "--SOURCE", "/nowhere/at/all"])
    with pytest.raises(SystemExit, match=r"none given\. Run 'git clone"):
        main()


def test_another_commit_is_refused_and_so_is_a_changed_one(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    with pytest.raises(PeerError, match=f"commit {timm_train.COMMIT} .* expected, {head} found"):
        demand_checkout(checkout)
    monkeypatch.setattr(timm_train, "COMMIT", head)
    assert demand_checkout(checkout) == checkout
    (checkout / "train.py").write_text("print(2)\n", encoding="utf-8")
    with pytest.raises(PeerError, match=r"changes found: M train\.py"):
        demand_checkout(checkout)


def test_the_peer_has_the_libraries_that_flywheel_has() -> None:
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pins = (PEERS / "timm-train.txt").read_text(encoding="utf-8").split("\n")
    assert {pin.partition("==")[0] for pin in pins} >= {"torch", "torchvision", "pillow"}
    assert [pin for pin in filter(None, pins) if f"\n{pin} \\\n" not in lock] == []


@pytest.mark.parametrize(
    ("line", "last"),
    [
        ("Train: 0 [  63/64 (100%)]  Loss: 1.73 (1.9)", True),
        ("Train: 12 [   0/64 (  2%)]  Loss: 2.3", False),
        ("Train: 0 [   0/1 (100%)]  Loss: 2.3", True),
        ("Test: [  63/64]", False),
    ],
)
def test_the_last_batch_of_an_epoch_is_told_by_the_log_of_train_py(line: str, last: bool) -> None:
    assert timm_train.ends_an_epoch(line) is last


def burner(tmp_path: Path, name: str, seconds: float) -> Program:
    return Program(name, (sys.executable, "-c", BURN.format(seconds=seconds)), lambda line: "done" in line, tmp_path)


def test_turns_hold_the_cpu_seconds_between_two_marks_and_nothing_runs_in_anothers(tmp_path: Path) -> None:
    turns = take_turns([burner(tmp_path, "long", 0.4), burner(tmp_path, "short", 0.1)], rounds=2)
    for name, seconds in (("long", 0.4), ("short", 0.1)):
        assert [turn.cpu_seconds for turn in turns[name]] == pytest.approx([seconds, seconds], abs=0.06)


def test_cpu_seconds_of_children_count(tmp_path: Path) -> None:
    child = "import time\nwhile time.process_time() < 0.6: pass"
    parent = f"import subprocess, sys\nfor _ in range(2):\n subprocess.run([sys.executable, '-c', {child!r}])\n"
    parent += " print('done', flush=True)"
    waiting = Program("waiting", (sys.executable, "-c", parent), lambda line: "done" in line, tmp_path)
    assert take_turns([waiting], rounds=1)["waiting"][0].cpu_seconds > 0.5


def test_a_program_that_fails_ends_the_measurement_with_its_last_lines(tmp_path: Path) -> None:
    broken = Program("broken", (sys.executable, "-c", "raise SystemExit('no such net')"), lambda _: False, tmp_path)
    with pytest.raises(TurnError, match=r"broken ended with exit code 1(.|\n)*no such net"):
        take_turns([broken], rounds=1)


def test_a_ratio_is_the_geometric_mean_with_students_interval() -> None:
    # logs of 2 and 8: mean log 4, standard error log 2, t of one degree of freedom 12.706
    found = ratio([2.0, 8.0], [1.0, 1.0])
    assert found["value"] == 4
    assert found["high"] == pytest.approx(4 * 2**12.706, rel=1e-3)
    assert ratio([3.0, 6.0], [2.0, 4.0]) == {"value": 1.5, "low": 1.5, "high": 1.5}


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_marks_every_pass(name: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    job = Job(bench.dataset, 32, Recipe(epochs=2, batch_size=16), bench.home)
    events: list[dict[str, object]] = []
    PROGRAMS[name](job, events.append)
    assert sum(ends_an_epoch(json.dumps(event)) for event in events) == 2
    if name == "flywheel":
        folder = bench.home / "airbench_small-benchmark"
        assert [checkpoint.epoch for checkpoint in find_checkpoints(folder / "checkpoints")] == [2]


def test_train_py_is_told_the_recipe_and_reads_the_same_images(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_train, "python_of", lambda _: Path("python"))
    recipe = Recipe(epochs=2, batch_size=16, learning_rate=0.03)
    peer = program(bench, "timm_train", recipe, bench.home / "small")
    config = json.loads(Path(peer.command[-1]).read_text(encoding="utf-8"))
    asked = {name: config[name] for name in ("model", "opt", "lr", "batch_size", "epochs", "smoothing")}
    expected = {"model": "airbench_small", "opt": "muon", "lr": 0.03, "batch_size": 16, "epochs": 2, "smoothing": 0.1}
    assert asked == expected
    assert len(list(Path(config["data_dir"]).glob("train/*/*"))) == 32
    assert peer.environment["OMP_NUM_THREADS"] == "1"


def test_the_documented_figures_are_those_that_were_measured() -> None:
    figures = json.loads((RESULTS / "training_loop.json").read_text(encoding="utf-8"))["figures"]
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    rows = re.findall(r"`(\w+)` \| ([\d.]+) \[([\d.]+), ([\d.]+)\] \|", page)
    assert {"share_of_ceiling", "share_of_ceiling_large", "ratio_to_timm_train"} <= {name for name, *_ in rows}
    for name, value, low, high in rows:
        measured = [f"{figures[name][part]:.2f}" for part in ("value", "low", "high")]
        assert [value, low, high] == measured, name

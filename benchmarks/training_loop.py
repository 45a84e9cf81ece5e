"""How much of a CPU the whole training loop leaves to the network, and how that compares with two other loops.

CPU seconds for the same images, by programs that take turns (`turns.py`): flywheel's loop, its ceiling and a DataLoader
loop (`training_programs.py`), and timm's own `train.py` (`timm_train.py`). One thread each; `train.py` has a
worker process more, which it can't do without. Nobody evaluates. Three sets: the net and recipe of `make run` with all
four; a stock timm net trained by SGD, against `train.py`; and the net and recipe of the preset `finetune`, all layers
from scratch, against the ceiling. The ceiling has the allocator settings that flywheel gives a training; the other two
loops run as people start them.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.peers import PeerError
from benchmarks.results import Claim, Figures, write_result
from benchmarks.timm_train import COMMIT, ROOT, demand_checkout, timm_train
from benchmarks.training_programs import Job
from benchmarks.turns import Program, Turn, ratio, take_turns
from benchmarks.versions import version_of
from flywheel.data.versions import open_arrays, original_bytes
from flywheel.model.architecture import create, parameter_count
from flywheel.model.preprocessing import measure_preprocessing
from flywheel.presets import FINETUNE, QUICKSTART
from flywheel.records import DatasetVersion, Preprocessing, Side, to_json
from flywheel.settings import DataParameters, Recipe, Settings, keep_tools_at_home
from tasks.fit_process import environment_for

SMALLEST_SHARE, SMALLEST_SHARE_LARGE, SMALLEST_RATIO = 0.85, 0.95, 1.7
MOST_SMALL_PARAMETERS = 1_000_000
STOCK = Recipe(model="test_resnet", optimizer="sgd", learning_rate=0.05, weight_decay=5e-4)
LARGE = FINETUNE.with_options({"recipe": {"pretrained": False, "head_epochs": 0}})
Turns = dict[str, list[Turn]]


@dataclass(frozen=True)
class Bench:
    """What all sets of programs share."""

    checkout: Path
    dataset: DatasetVersion
    preprocessing: Preprocessing
    folder: Path  # train/<class>/<image>, as the source had them
    home: Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", "--SOURCE", required=True, help="a folder or archive of class folders, or cifar10")
    parser.add_argument("--peer-timm", "--PEER_TIMM", type=Path, help="a checkout of pytorch-image-models")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--images-large", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--rounds-large", type=int, default=5)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # else stopped programs would be left behind
    try:
        checkout = demand_checkout(given.peer_timm)
        with tempfile.TemporaryDirectory(prefix="flywheel-training-loop-") as home:
            bench = prepare(given.source, given.images, checkout, Path(home))
            large = prepare(given.source, given.images_large, checkout, Path(home) / "large", LARGE.data.packed_size)
            small = QUICKSTART.with_options({}).recipe
            names = ("flywheel", "bare", "dataloader", "timm_train")
            by_set = {
                "small": measure(bench, "small", names, small, given.images, given.rounds),
                "stock": measure(bench, "stock", ("flywheel", "timm_train"), STOCK, given.images, given.rounds),
                "large": measure(large, "large", names[:2], LARGE.recipe, given.images_large, given.rounds_large),
            }
    except PeerError as error:
        raise SystemExit(str(error)) from None
    images = {"small": given.images, "stock": given.images, "large": given.images_large}
    write_result(claim_of(by_set, {"small": small, "stock": STOCK, "large": LARGE.recipe}, images))


def prepare(source: str, images: int, checkout: Path, home: Path, size: int | None = None) -> Bench:
    """A dataset version with at least so many training images, and the same ones as files."""
    settings = Settings(home=home)
    keep_tools_at_home(settings)
    version = version_of(DataParameters(source=source, subset=images * 3 // 2, size=size), settings)
    if version.counts["train"] < images:
        raise SystemExit(f"{source}: {images:,} training images expected, {version.counts['train']:,} found.")
    arrays = open_arrays(version)
    rows = arrays.side(Side.TRAIN)[:images]
    for row in rows:
        name = str(arrays.ids[row])
        folder = home / "images" / "train" / version.classes[arrays.labels[row]]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jpg").write_bytes(original_bytes(settings.paths, name))
    return Bench(checkout, version, measure_preprocessing(arrays.images, rows, version.filter), home / "images", home)


def measure(bench: Bench, label: str, names: Sequence[str], recipe: Recipe, images: int, rounds: int) -> Turns:
    """The turns of some of the four programs with one recipe."""
    if images % recipe.batch_size:
        raise SystemExit(f"--images {images}: a multiple of the batch size {recipe.batch_size} expected.")
    print(f"{label}: {recipe.model}, {recipe.optimizer}, batches of {recipe.batch_size}", flush=True)
    whole = recipe.model_copy(update={"epochs": rounds + 1})
    home = bench.home / label
    home.mkdir()
    (home / "job.json").write_text(to_json(Job(bench.dataset, images, whole, home)), encoding="utf-8")
    programs = [program(bench, name, whole, home) for name in names]
    return take_turns(programs, rounds)


def program(bench: Bench, name: str, recipe: Recipe, home: Path) -> Program:
    """One of the four. The allocator's settings are part of how flywheel trains; threads are the same for all."""
    environment = {**environment_for(recipe.threads), "WANDB_MODE": "offline"}
    if name in ("dataloader", "timm_train"):
        environment = {key: value for key, value in environment.items() if not key.startswith("MALLOC_")}
    if name == "timm_train":
        classes = len(bench.dataset.classes)
        peer = timm_train(name, bench.checkout, bench.folder, recipe, classes, bench.preprocessing, home / name)
        return Program(peer.name, peer.command, peer.is_mark, peer.folder, {**environment, **peer.environment})
    command = (sys.executable, "-m", "benchmarks.training_programs", name, str(home / "job.json"))
    return Program(name, command, ends_an_epoch, ROOT, environment)


def ends_an_epoch(line: str) -> bool:
    """Whether it is the line that one of `training_programs` prints after a pass."""
    try:
        return bool(json.loads(line)["event"] == "epoch")
    except (ValueError, TypeError, KeyError):
        return False


def claim_of(by_set: dict[str, Turns], recipes: dict[str, Recipe], images: dict[str, int]) -> Claim:
    small, stock, large = by_set["small"], by_set["stock"], by_set["large"]
    share, share_large = (
        ratio(cpu(small, "bare"), cpu(small, "flywheel")),
        ratio(cpu(large, "bare"), cpu(large, "flywheel")),
    )
    timm, timm_stock = (ratio(cpu(one, "timm_train"), cpu(one, "flywheel")) for one in (small, stock))
    figures: Figures = {
        "share_of_ceiling": share,
        "share_of_ceiling_large": share_large,
        "ratio_to_timm_train": timm,
        "ratio_to_timm_train_stock_net": timm_stock,
        "ratio_to_dataloader": ratio(cpu(small, "dataloader"), cpu(small, "flywheel")),
        "wall_ratio_to_timm_train": ratio(wall(small, "timm_train"), wall(small, "flywheel")),
        "wall_ratio_to_timm_train_stock_net": ratio(wall(stock, "timm_train"), wall(stock, "flywheel")),
        "timm_train_commit": COMMIT,
    }
    parameters = {}
    for label, recipe in recipes.items():
        parameters[label] = parameter_count(create(recipe.model, 10, 32))
        figures[f"{label}_net"] = f"{recipe.model}, {recipe.optimizer}, batches of {recipe.batch_size}"
        figures[f"{label}_parameters"] = parameters[label]
        figures[f"{label}_rounds"] = len(by_set[label]["flywheel"])
        for name in by_set[label]:
            figures[f"{label}_{name}_images_per_cpu_second"] = round(
                images[label] / float(np.median(cpu(by_set[label], name))), 1
            )
    return Claim(
        name="training_loop",
        claim="Whole training on a CPU does at least 0.85 of the images a CPU second of bare forward and backward for "
        "a net under 1 M parameters, 0.95 for one above, and 1.7 times those of timm's train.py.",
        command="make bench NAME=training_loop SOURCE=<CIFAR-10 as JPEG> PEER_TIMM=<checkout of pytorch-image-models>",
        figures=figures,
        holds=share["low"] >= SMALLEST_SHARE
        and share_large["low"] >= SMALLEST_SHARE_LARGE
        and min(timm["low"], timm_stock["low"]) >= SMALLEST_RATIO
        and parameters["small"] < MOST_SMALL_PARAMETERS < parameters["large"],
    )


def cpu(turns: Turns, name: str) -> list[float]:
    return [turn.cpu_seconds for turn in turns[name]]


def wall(turns: Turns, name: str) -> list[float]:
    return [turn.wall_seconds for turn in turns[name]]


if __name__ == "__main__":
    main()

"""timm's own `train.py`, of a released commit, told to do what a recipe says, in an environment of its own."""

import json
import os
import re
import subprocess
from pathlib import Path

from benchmarks.peers import PEERS, PeerError, python_of
from benchmarks.turns import Program
from flywheel.records import Preprocessing
from flywheel.settings import Recipe

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = "timm-train"
ADDRESS = "https://github.com/huggingface/pytorch-image-models"
TAG, COMMIT = "v1.0.28", "8ef73809f622e0031bd7f4940265734aef8b9978"
GET_IT = (
    f"Run 'git clone --branch {TAG} {ADDRESS} FOLDER' outside of this one, then 'make bench NAME=training_loop "
    "SOURCE=... PEER_TIMM=FOLDER'."
)
# It asks PyTorch for workers that persist, which needs at least one.
WORKERS = 1
LAST_BATCH = re.compile(r"Train: \d+ \[ *(\d+)/(\d+) ")


def demand_checkout(folder: Path | None) -> Path:
    """The checkout, if it is the commit that the benchmark names, unchanged. Raises PeerError."""
    if folder is None:
        raise PeerError(f"PEER_TIMM: a checkout of {ADDRESS} expected, none given. {GET_IT}")
    if not (folder / "train.py").is_file():
        raise PeerError(f"PEER_TIMM={folder}: a checkout with train.py expected, no such file found. {GET_IT}")
    found = _git(folder, "rev-parse", "HEAD")
    if found != COMMIT:
        raise PeerError(f"PEER_TIMM={folder}: commit {COMMIT} ({TAG}) expected, {found} found. {GET_IT}")
    if changed := _git(folder, "status", "--porcelain", "--", "train.py", "timm"):
        raise PeerError(f"PEER_TIMM={folder}: {TAG} as it was released expected, changes found: {changed}. {GET_IT}")
    return folder.resolve()


def timm_train(
    name: str, checkout: Path, images: Path, recipe: Recipe, classes: int, preprocessing: Preprocessing, output: Path
) -> Program:
    """It reads `images`/train/<class>/, crops and mirrors, doesn't evaluate, and leaves checkpoints in `output`."""
    size = preprocessing.size
    config = {
        "data_dir": str(images),
        "val_split": "",
        "model": recipe.model,
        "num_classes": classes,
        "input_size": [3, size, size],
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "batch_size": recipe.batch_size,
        "color_jitter": None,
        "train_interpolation": "bilinear",
        "smoothing": recipe.label_smoothing,
        "opt": recipe.optimizer,
        "lr": recipe.learning_rate,
        "weight_decay": recipe.weight_decay,
        "sched": "cosine",
        "sched_on_updates": True,
        "warmup_epochs": 0,
        "epochs": recipe.epochs,
        "workers": WORKERS,
        "channels_last": True,
        "device": "cpu",
        "device_modules": ["timm_nets"],  # imported before the model is made
        "output": str(output),
    }
    output.mkdir(parents=True, exist_ok=True)
    (output / "config.yaml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    command = (str(python_of(ENVIRONMENT)), str(checkout / "train.py"), "--config", str(output / "config.yaml"))
    return Program(name, command, ends_an_epoch, output, {"PYTHONPATH": f"{ROOT}{os.pathsep}{PEERS}"})


def ends_an_epoch(line: str) -> bool:
    """Whether it is the log line of an epoch's last batch."""
    found = LAST_BATCH.search(line)
    return found is not None and int(found.group(1)) + 1 == int(found.group(2))


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else f"nothing that git knows ({done.stderr.strip()})"

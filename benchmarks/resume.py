"""Killed runs end with the same weights: SIGKILL to the whole run at random moments, then the same command again.

Each trial trains in a home of its own: `python -m flows.run --until train` is started, killed with all its children at
a moment drawn from the seed (every second one while a checkpoint is being written), and started again. The weights'
hash must be that of a run that nobody killed.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks.results import Claim, write_result
from flywheel.identity import digest_of_file

ROOT = Path(__file__).resolve().parent.parent
POLL_SECONDS = 0.002
LONGEST_RUN_SECONDS = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--source", default="digits")
    parser.add_argument("--epochs", type=int, default=8)
    given = parser.parse_args()
    draw = random.Random(given.seed)  # noqa: S311 - moments of a kill, no secret
    print(f"seed {given.seed}")
    with tempfile.TemporaryDirectory(prefix="flywheel-resume-") as scratch:
        whole = Path(scratch) / "whole"
        seconds = train(whole, given)
        expected = weights_of(whole)
        print(f"uninterrupted: {expected} ({seconds:.1f} s of training)")
        found = [trial(Path(scratch), number, draw, seconds, given) for number in range(given.kills)]
    identical = sum(digest == expected for digest, _ in found)
    writing = sum(inside for _, inside in found)
    write_result(
        Claim(
            name="resume",
            claim="A run killed at any moment and started again ends with the weights of one that nobody killed.",
            command="make bench NAME=resume",
            figures={"kills": given.kills, "identical": identical, "inside_a_checkpoint_write": writing},
            holds=identical == given.kills and writing > 0,
        )
    )


def trial(
    scratch: Path, number: int, draw: random.Random, seconds: float, given: argparse.Namespace
) -> tuple[str, bool]:
    """Kill once and run to the end; the final hash, and whether the kill fell inside a checkpoint's write."""
    home = scratch / f"trial-{number}"
    copy_prepared(scratch / "whole", home)
    inside = number % 2 == 1
    epoch = draw.randint(1, given.epochs - 1)
    moment = draw.uniform(0.0, seconds / given.epochs)
    process = start(home, given)
    checkpoints = "models/.partial-*/checkpoints"
    if inside:
        wait_for(lambda: list(home.glob(f"{checkpoints}/.writing-{epoch:05d}/*")), process)
        where = f"while the checkpoint of epoch {epoch} was written"
    else:
        wait_for(lambda: list(home.glob(f"{checkpoints}/epoch-{epoch:05d}")), process)
        time.sleep(moment)
        where = f"{moment:.2f} s into epoch {epoch + 1}"
    kill_all(process)
    left = sorted(path.name for path in home.glob("models/.partial-*/checkpoints/*"))
    train(home, given)
    digest = weights_of(home)
    print(f"kill {number + 1}: {where}; on disk {left or 'no checkpoint'}; resumed to {digest}", flush=True)
    shutil.rmtree(home)
    return digest, inside


def kill_all(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL to the training process first, since it is what writes, then to the flow and its server."""
    family = psutil.Process(process.pid).children(recursive=True)
    family.sort(key=lambda member: "tasks.fit" not in member.cmdline())
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.kill()
    process.wait()
    psutil.wait_procs(family, timeout=10)


def copy_prepared(whole: Path, home: Path) -> None:
    """The data of the uninterrupted run, without its model, so that a trial is about training."""
    for name in ("data", ".flywheel"):
        shutil.copytree(whole / name, home / name, symlinks=True)


def train(home: Path, given: argparse.Namespace) -> float:
    """Run to the end; returns the seconds that training took, as its manifest says."""
    process = start(home, given)
    if process.wait(LONGEST_RUN_SECONDS) != 0:
        raise SystemExit((home / "run.log").read_text(encoding="utf-8"))
    history = next(home.glob("models/model-*/model.json")).read_text(encoding="utf-8")
    return float(json.loads(history)["model"]["train_seconds"])


def start(home: Path, given: argparse.Namespace) -> "subprocess.Popen[bytes]":
    home.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "flows.run", "--until", "train", "--source", given.source]
    command += ["--epochs", str(given.epochs)]
    with (home / "run.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "FLYWHEEL_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_for(condition: Callable[[], object], process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + LONGEST_RUN_SECONDS
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the run ended before the moment of its kill")
        time.sleep(POLL_SECONDS)


def weights_of(home: Path) -> str:
    return digest_of_file(next(home.glob("models/model-*/weights.safetensors")))


if __name__ == "__main__":
    main()

"""Checkpoints: one folder an epoch, renamed into place when whole, so that a kill at any moment leaves the last one.

A folder holds `weights.safetensors` (the weights that were measured: the averaged ones where EMA is on), `state.pt`
(what else the next step depends on, readable under `weights_only=True`) and `checkpoint.json` with both hashes.
"""

import json
import logging
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from flywheel.identity import digest_of_file
from flywheel.model.folder import WEIGHTS

logger = logging.getLogger(__name__)

STATE = "state.pt"
MANIFEST = "checkpoint.json"
UNFINISHED = ".writing-"
REMOVED = ".removing-"


@dataclass(frozen=True)
class Checkpoint:
    """One finished epoch on disk."""

    epoch: int  # 1 is the first
    folder: Path

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS


def save_checkpoint(
    root: Path,
    epoch: int,
    weights: dict[str, Tensor],
    state: dict[str, Any],
    on_stage: Callable[[str], None] = lambda _: None,
) -> Checkpoint:
    """Write an epoch's checkpoint. `on_stage` hears "weights", "state", "manifest" and "renamed" as each is on disk."""
    unfinished = root / f"{UNFINISHED}{epoch:05d}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    save_weights(weights, unfinished / WEIGHTS)
    on_stage("weights")
    torch.save(state, unfinished / STATE)
    on_stage("state")
    hashes = {name: digest_of_file(unfinished / name) for name in (WEIGHTS, STATE)}
    (unfinished / MANIFEST).write_text(json.dumps({"epoch": epoch, "files": hashes}), encoding="utf-8")
    on_stage("manifest")
    for name in (WEIGHTS, STATE, MANIFEST):
        _flush(unfinished / name)
    _flush(unfinished)
    folder = root / f"epoch-{epoch:05d}"
    if folder.exists():  # one that was found broken and trained again
        _remove(folder)
    unfinished.rename(folder)
    _flush(root)
    on_stage("renamed")
    return Checkpoint(epoch, folder)


def load_checkpoint(checkpoint: Checkpoint, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and state of a whole checkpoint; generator states stay on the CPU."""
    state: dict[str, Any] = torch.load(checkpoint.folder / STATE, map_location="cpu", weights_only=True)
    return load_file(checkpoint.weights, device=str(device)), state


def find_checkpoints(root: Path) -> list[Checkpoint]:
    """The whole checkpoints, oldest first. What a kill left half written or half removed is taken away."""
    if not root.is_dir():
        return []
    for leftover in [*root.glob(f"{UNFINISHED}*"), *root.glob(f"{REMOVED}*")]:
        shutil.rmtree(leftover, ignore_errors=True)
    found = (Checkpoint(int(folder.name.removeprefix("epoch-")), folder) for folder in sorted(root.glob("epoch-*")))
    return [checkpoint for checkpoint in found if _is_whole(checkpoint)]


def keep_only(root: Path, epochs: set[int]) -> None:
    """Remove every checkpoint but those of the given epochs."""
    for folder in root.glob("epoch-*"):
        if int(folder.name.removeprefix("epoch-")) not in epochs:
            _remove(folder)


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Safetensors: equal weights give equal bytes, whatever device and memory format they lay in."""
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}, path)
    path.chmod(0o644)  # safetensors makes it readable by its owner only


def generator_states() -> dict[str, Any]:
    """The states of torch's, CUDA's, NumPy's and Python's global generators, as plain types and tensors."""
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        # NumPy's own tuple holds an array, which weights_only refuses
        "numpy": [torch.from_numpy(np.asarray(keys, np.int64)), int(position), int(has_gauss), float(cached)],
        "python": [version, list(internal), gauss],
    }


def restore_generators(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
    keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))


def _is_whole(checkpoint: Checkpoint) -> bool:
    try:
        files = json.loads((checkpoint.folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        whole = all(digest_of_file(checkpoint.folder / name) == files[name] for name in (WEIGHTS, STATE))
    except (OSError, ValueError, KeyError) as error:
        logger.warning("%s: not used, it can't be read (%s)", checkpoint.folder, error)
        return False
    if not whole:
        logger.warning("%s: not used, a file hasn't the hash that it was written with", checkpoint.folder)
    return whole


def _remove(folder: Path) -> None:
    """Renamed first: a kill while files are deleted must not leave half a checkpoint under a good name."""
    removed = folder.with_name(f"{REMOVED}{folder.name}")
    shutil.rmtree(removed, ignore_errors=True)
    folder.rename(removed)
    shutil.rmtree(removed, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

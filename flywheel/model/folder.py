"""A model's folder: its identity, its manifest, and the only way to read it. No torch in here, so that asking is quick.

A folder grows as `models/.partial-<id>/` and is renamed to `models/<id>/` when it is whole. Its manifest `model.json`
is written last and lists every file with its hash; readers trust only the manifest.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flywheel.identity import code_version, digest_of_file, name_of
from flywheel.records import DatasetVersion, TrainedModel, as_dict, from_json
from flywheel.settings import Recipe

MANIFEST = "model.json"
WEIGHTS = "weights.safetensors"
HISTORY = "history.json"
CHECKPOINTS = "checkpoints"
REQUEST = "request.json"  # what the training process was asked for
AGAIN = "Delete the folder and run again what made it"
AGAIN_AS_WRITTEN = f"{AGAIN}: its recipe and dataset stand in {MANIFEST}."
CODE_ROOMS = ("data", "model")  # the code that decides a model's weights


class ModelError(ValueError):
    """A model that can't be built, read or trusted."""


class TrainingError(RuntimeError):
    """A training that ended without a model: why, and what to try."""

    def __init__(self, subject: str, reason: str, hint: str) -> None:
        super().__init__(f"{subject}: {reason} {hint}")
        self.subject = subject
        self.reason = reason
        self.hint = hint


def model_id(version: DatasetVersion, recipe: Recipe, device_kind: str, initial_weights: str = "") -> str:
    """`model-…`: the hash of all that decides the weights. Seed and thread count are in the recipe.

    `device_kind` is cpu, cuda or mps; `initial_weights` the hash of their file, empty for weights drawn by the seed.
    """
    content = {
        "dataset": version.id,
        "recipe": recipe_content(recipe),
        "initial_weights": initial_weights,
        "device": device_kind,
        "code": model_code_version(),
    }
    return name_of("model", content)


def recipe_content(recipe: Recipe) -> dict[str, Any]:
    """The recipe without the place of its initial weights: their hash decides, wherever the file lies."""
    return recipe.model_dump(mode="json", exclude={"pretrained", "weights"})


@cache
def model_code_version() -> str:
    """The hash of the files under `flywheel/data` and `flywheel/model`: not the commit."""
    return code_version(Path(__file__).resolve().parent.parent, CODE_ROOMS)


def partial_folder(folder: Path) -> Path:
    """Where a model's folder grows: `models/model-x` → `models/.partial-model-x`."""
    return folder.with_name(f".partial-{folder.name}")


def list_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 by file name, of the files that the manifest answers for."""
    return {name: digest_of_file(folder / name) for name in sorted(names)}


def write_manifest(folder: Path, model: TrainedModel, files: Mapping[str, str], training: Mapping[str, Any]) -> None:
    """Write `model.json`, last of all files: it is the mark that the folder is whole.

    `training` is what the identity stands on and how the run went, for the reader of the file.
    """
    document = {"model": as_dict(replace(model, folder=Path())), "files": dict(files), "training": dict(training)}
    write_atomically(folder / MANIFEST, json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest's document. Raises ModelError where there is none or it can't be read."""
    path = folder / MANIFEST
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{folder}: a model's folder with {MANIFEST} expected, none found. Run 'make train'."
        ) from None
    except (ValueError, OSError) as error:
        raise ModelError(f"{path}: a model's manifest expected, unreadable ({error}). {AGAIN}.") from error
    if not isinstance(document, dict) or not {"model", "files"} <= document.keys():
        raise ModelError(f"{path}: 'model' and 'files' expected, not found. {AGAIN}.")
    return document


def read_model(folder: Path) -> TrainedModel:
    """The model as its manifest describes it, wherever the folder lies now. Files are not hashed: see `verify`.

    Raises ModelError where the manifest is missing or broken, or lists a file that isn't there.
    """
    document = read_manifest(folder)
    try:
        model = from_json(TrainedModel, json.dumps(document["model"]))
    except ValidationError as error:
        raise ModelError(f"{folder / MANIFEST}: not a model's record: {error}. {AGAIN}.") from error
    absent = sorted(name for name in document["files"] if not (folder / name).is_file())
    if absent:
        raise ModelError(
            f"{folder}: {len(document['files'])} files expected, {len(absent)} missing; first {absent[0]}. "
            f"{AGAIN_AS_WRITTEN}"
        )
    return replace(model, folder=folder)


def verify(folder: Path) -> TrainedModel:
    """`read_model`, and every file has the manifest's hash. Raises ModelError naming the first that hasn't."""
    model = read_model(folder)
    for name in read_manifest(folder)["files"]:
        check_file(folder, name)
    return model


def check_file(folder: Path, name: str) -> Path:
    """The path of a file that the manifest lists, once its hash is right. Raises ModelError."""
    expected = read_manifest(folder)["files"].get(name)
    if expected is None:
        raise ModelError(f"{folder / name}: not listed in {MANIFEST}. {AGAIN_AS_WRITTEN}")
    path = folder / name
    found = digest_of_file(path) if path.is_file() else "no file"
    if found != expected:
        raise ModelError(f"{path}: SHA-256 {expected[:12]}… expected, {found[:12]} found. {AGAIN_AS_WRITTEN}")
    return path


def publish(partial: Path, folder: Path) -> TrainedModel:
    """Rename a whole partial folder into place; what trained it and is no longer needed goes first."""
    verify(partial)
    shutil.rmtree(partial / CHECKPOINTS, ignore_errors=True)
    (partial / REQUEST).unlink(missing_ok=True)  # it holds this machine's paths
    if folder.exists():  # without a valid manifest: a reader would have taken it
        shutil.rmtree(folder)
    partial.rename(folder)
    return read_model(folder)


def write_atomically(path: Path, text: str) -> None:
    """A reader sees the old file or the new one, never half of one; after a power cut too."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)

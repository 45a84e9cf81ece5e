"""Bentos in the project's store, read as files: BentoML takes seconds to import.

A Bento's version is `<the model's hex>-<8 digits of its contents' hash>`: from its own folder one can tell whether its
sources and pins are those that it was built of. Its model has a manifest with every file's hash.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from flywheel.identity import digest_of_file, digest_of_lines
from flywheel.lineage.node import Check, LineageError, State
from flywheel.model.folder import ModelError, verify
from flywheel.paths import Paths
from flywheel.reasons import reason_of
from flywheel.records import TrainedModel
from flywheel.runtime.record import read_runtime

DESCRIPTION = "bento.yaml"
NOT_SHIPPED = {"bentofile.yaml"}  # BentoML adds it to the sources
AGAIN = "'make train' with the model's own parameters packages it again"


@dataclass(frozen=True)
class StoredBento:
    """A Bento by its description."""

    tag: str
    folder: Path
    model_id: str
    created: datetime
    model_tag: str
    requirements: tuple[str, ...]


def bentos_of(model_id: str, paths: Paths) -> list[StoredBento]:
    """The readable Bentos that carry a model, the newest first."""
    found = []
    for description in sorted((paths.bentoml / "bentos").glob(f"*/*/{DESCRIPTION}")):
        folder = description.parent
        try:
            bento = read_bento(f"{folder.parent.name}:{folder.name}", paths)
        except LineageError:
            continue
        found += [bento] if bento.model_id == model_id else []
    return sorted(found, key=lambda bento: bento.created, reverse=True)


def read_bento(tag: str, paths: Paths) -> StoredBento:
    """Raises LineageError where the store has no such Bento, or its description can't be read."""
    name, _, version = tag.partition(":")
    folder = paths.bentoml / "bentos" / name / version
    if not (name and version and (folder / DESCRIPTION).is_file()):
        raise LineageError(f"{tag}: no such Bento in {paths.bentoml}. {AGAIN}.")
    try:
        told: dict[str, Any] = yaml.safe_load((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return StoredBento(
            tag=tag,
            folder=folder,
            model_id=str(told["labels"]["model"]),
            created=datetime.fromisoformat(str(told["creation_time"])),
            model_tag=str(told["models"][0]["tag"]),
            requirements=tuple(str(told["image"]["python_requirements"]).split()),
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, yaml.YAMLError) as error:
        raise LineageError(f"{folder / DESCRIPTION}: can't be read ({type(error).__name__}). {AGAIN}.") from error


def check_bento(tag: str, model: TrainedModel, paths: Paths) -> Check:
    """Whether a Bento is what its tag says, and the model in it is this one."""
    if not (paths.bentoml / "bentos" / tag.replace(":", "/")).is_dir():
        return Check(State.MISSING, f"not in {paths.bentoml}")
    try:
        bento = read_bento(tag, paths)
    except LineageError as error:
        return Check(State.CHANGED, reason_of(error))
    found = contents_digest(bento)
    expected = tag.rpartition("-")[2]
    if not found.startswith(expected):
        return Check(State.CHANGED, f"sources and pins hash to {found[: len(expected)]}, its tag says {expected}")
    stored = paths.bentoml / "models" / bento.model_tag.replace(":", "/")
    try:
        carried = verify(stored)
        read_runtime(stored, carried)
    except (ModelError, OSError) as error:
        return Check(State.CHANGED, f"the model in it: {error}")
    if (carried.id, carried.weights_sha256) != (model.id, model.weights_sha256):
        return Check(State.CHANGED, f"it carries {carried.id} with weights {carried.weights_sha256[:12]}")
    return Check(State.WHOLE, "sources, pins and the model in it")


def contents_digest(bento: StoredBento) -> str:
    """As `tasks.bento_contents` makes it of the project's files: of the shipped sources, then of the pins."""
    sources = bento.folder / "src"
    files = sorted(file.relative_to(sources) for file in sources.rglob("*") if file.is_file())
    shipped = [file for file in files if file.as_posix() not in NOT_SHIPPED and "__pycache__" not in file.parts]
    lines = [f"{file.as_posix()} {digest_of_file(sources / file)}" for file in shipped]
    return digest_of_lines([*lines, *bento.requirements])

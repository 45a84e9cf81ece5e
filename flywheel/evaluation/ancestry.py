"""What a model learned from: its own dataset version, and those of the models whose weights it began with.

A model's manifest holds the hash of its first weights. Where that is the hash of a model's weights in `models/`, that
model is an ancestor, and its images count as learned from. What weights from elsewhere learned from is not known here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from flywheel.identity import NAME_DIGITS
from flywheel.model.folder import MANIFEST, ModelError, read_manifest
from flywheel.paths import Paths


@dataclass(frozen=True)
class Learned:
    """A dataset version that a model, or an ancestor of it, was trained on."""

    dataset_id: str  # empty where it can't be told
    ancestor_id: str = ""  # empty for the model itself
    problem: str = ""  # why it, or what comes before it, can't be told
    unknown: str = ""  # first weights that no model here has


def learned_from(model_id: str, paths: Paths) -> Iterator[Learned]:
    """The model's own version first, then those of its ancestors, as far back as is known here."""
    waiting, seen = [model_id], {model_id}
    while waiting:
        name = waiting.pop(0)
        ancestor = "" if name == model_id else name
        try:
            dataset_id, origin, sha256 = _read(name, paths)
        except (ModelError, LookupError, TypeError, AttributeError) as error:
            yield Learned("", ancestor, f"What {name} learned from can't be read: {error}")
            continue
        learned = Learned(dataset_id, ancestor)
        parents, unread = _with_weights(sha256, paths) if sha256 else ([], [])
        if unread and not parents:
            told = f"{name} began with weights of {origin}; they may be {unread[0]}'s, whose {MANIFEST} can't be read."
            learned = replace(learned, problem=told)
        elif not parents and (origin or sha256):
            learned = replace(learned, unknown=f"{origin or sha256[:NAME_DIGITS]}, with which {name} began,")
        yield learned
        waiting += [parent for parent in parents if parent not in seen]
        seen |= set(parents)


def _read(model_id: str, paths: Paths) -> tuple[str, str, str]:
    """A model's dataset version, the origin of its first weights in words, and their hash; empty where drawn."""
    document = read_manifest(paths.model(model_id))
    initial = (document.get("training") or {}).get("initial_weights") or {}
    origin = document["model"].get("initial_weights") or initial.get("origin") or ""
    return str(document["model"]["dataset_id"]), str(origin), str(initial.get("sha256") or "")


def _with_weights(sha256: str, paths: Paths) -> tuple[list[str], list[str]]:
    """The models that have these weights, and those of which it can't be told."""
    found, unread = [], []
    for folder in sorted(paths.models.glob("model-*")):
        try:
            if read_manifest(folder)["model"]["weights_sha256"] == sha256:
                found.append(folder.name)
        except (ModelError, LookupError, TypeError):
            unread.append(folder.name)
    return found, unread

"""`runtime/` in a model's folder: which engine serves the model, and what was measured when it was chosen.

It lies beside what the manifest lists: a model's identity is its weights, and the same model may be packaged again on a
machine that measures otherwise. No torch in here, so that asking is quick.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import ValidationError

from flywheel.identity import digest_of_file
from flywheel.model.folder import ModelError
from flywheel.records import Interval, TrainedModel, from_json

FOLDER = "runtime"
RECORD = "runtime.json"
GRAPH = "model.onnx"
AGAIN = f"Delete the folder '{FOLDER}' and package the model again: 'make train' with its own parameters does"


class Engine(StrEnum):
    """Who computes."""

    TORCH = "torch"
    ONNX = "onnxruntime"


@dataclass(frozen=True)
class Timing:
    """One CPU thread's time in ONNX Runtime over that in torch, for batches of one size."""

    batch: int  # images
    ratio: Interval | None  # None where too few rounds ended within the time
    rounds: int


@dataclass(frozen=True)
class Runtime:
    """The engine that was chosen for a model, and why."""

    engine: Engine
    reason: str
    weights_sha256: str  # of the model that was measured
    versions: dict[str, str]  # of the packages that were compared
    timings: tuple[Timing, ...] = ()
    difference: float | None = None  # of a logit, at most, between the two
    graph_sha256: str = ""  # of the exported model; empty where torch serves


def read_runtime(folder: Path, model: TrainedModel) -> Runtime | None:
    """The engine of a model's folder; None where none was chosen yet, which means torch.

    Raises ModelError where the record can't be read, is of other weights, or its graph is not the one it names.
    """
    path = folder / FOLDER / RECORD
    try:
        runtime = from_json(Runtime, path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise ModelError(f"{path}: the record of a runtime expected, unreadable ({error}). {AGAIN}.") from error
    if runtime.weights_sha256 != model.weights_sha256:
        raise ModelError(f"{path}: measured with other weights than those of {model.id}. {AGAIN}.")
    graph = folder / FOLDER / GRAPH
    found = digest_of_file(graph) if graph.is_file() else ""
    if runtime.engine is Engine.ONNX and found != runtime.graph_sha256:
        raise ModelError(
            f"{graph}: SHA-256 {runtime.graph_sha256[:12]}… expected, {found[:12] or 'no file'} found. {AGAIN}."
        )
    return runtime


def runtime_files(runtime: Runtime) -> tuple[str, ...]:
    """What goes with the model where it goes, relative to its folder."""
    graph = (f"{FOLDER}/{GRAPH}",) if runtime.engine is Engine.ONNX else ()
    return (f"{FOLDER}/{RECORD}", *graph)

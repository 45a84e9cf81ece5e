"""A model as it is served: by the engine that was chosen for it when it was packaged, on the CPU.

Both engines take the same packed images and give the same outputs, to 1e-3 of a logit.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from flywheel.model.folder import ModelError, read_model
from flywheel.model.inference import Outputs, load_model
from flywheel.model.preprocessing import pack
from flywheel.records import TrainedModel
from flywheel.runtime.record import FOLDER, GRAPH, Engine, read_runtime

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

log = logging.getLogger(__name__)

INPUT = "images"
OUTPUTS = ("logits", "embeddings")
ERRORS_ONLY = 3  # of ONNX Runtime's levels of logging


class RunningModel(Protocol):
    """What answers: `flywheel.model.inference.Classifier`, or the same model in ONNX Runtime."""

    @property
    def model(self) -> TrainedModel: ...

    def classify(self, images: Sequence[NDArray[np.uint8]]) -> Outputs:
        """Decoded images uint8[H, W, 3] of any sizes."""

    def predict_packed(self, images: NDArray[np.uint8]) -> Outputs:
        """uint8[N, S, S, 3] at the model's own size. Raises ModelError for another shape."""


@dataclass(frozen=True)
class OnnxModel:
    """A model's exported graph, from bytes of pixels to calibrated logits."""

    model: TrainedModel
    session: "InferenceSession"

    def classify(self, images: Sequence[NDArray[np.uint8]]) -> Outputs:
        return self.predict_packed(pack(list(images), self.model.preprocessing))

    def predict_packed(self, images: NDArray[np.uint8]) -> Outputs:
        from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

        try:
            logits, embeddings = self.session.run(OUTPUTS, {INPUT: np.ascontiguousarray(images)})
        except InvalidArgument as error:
            size = self.model.preprocessing.size
            raise ModelError(f"{self.model.id}: uint8[N, {size}, {size}, 3] expected. {error}") from error
        return Outputs(logits, embeddings)


def load_running(folder: Path) -> RunningModel:
    """The model of a folder with the engine that was chosen for it; with torch where none was.

    Raises ModelError where anything in the folder is damaged.
    """
    model = read_model(folder)
    runtime = read_runtime(folder, model)
    if runtime is None or runtime.engine is Engine.TORCH:
        return load_model(folder)
    try:
        return load_onnx(model, folder / FOLDER / GRAPH)
    except ImportError:
        log.warning("%s: packaged for ONNX Runtime, which is not installed here; torch answers, slower", model.id)
        return load_model(folder)


def load_onnx(model: TrainedModel, graph: Path) -> OnnxModel:
    """An exported graph, with as many threads as torch has here.

    Raises ModelError where it can't be loaded, ImportError where ONNX Runtime isn't installed.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    try:
        session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no base of their own
        raise ModelError(f"{graph}: a graph for ONNX Runtime expected, it can't be loaded ({error}).") from error
    return OnnxModel(model, session)


def engine_of(running: RunningModel) -> Engine:
    """Who computes this model's answers."""
    return Engine.ONNX if isinstance(running, OnnxModel) else Engine.TORCH

"""A trained model that answers: the one loader and the one forward pass of evaluation, monitoring and the service.

Logits of the same image in batches of other sizes differ by at most 1e-4 (float32 sums in another order).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from flywheel.model.architecture import create, memory_format
from flywheel.model.folder import AGAIN_AS_WRITTEN, WEIGHTS, ModelError, check_file, read_model
from flywheel.model.preprocessing import normalise, pack
from flywheel.records import Preprocessing, TrainedModel

__all__ = ["Classifier", "ModelError", "Outputs", "classifier_of", "load_model", "predict_logits", "softmax"]

BATCH_SIZE = 512


@dataclass(frozen=True)
class Outputs:
    """What the network says about N images."""

    logits: NDArray[np.float32]  # [N, C], calibrated: divided by the model's temperature
    embeddings: NDArray[np.float32]  # [N, D], the layer before the logits


@dataclass(frozen=True)
class Classifier:
    """A model on a device, in evaluation mode."""

    model: TrainedModel
    network: nn.Module
    layout: torch.memory_format = torch.channels_last

    def classify(self, images: Sequence[NDArray[np.uint8]]) -> Outputs:
        """Decoded images uint8[H, W, 3] of any sizes: resized as the training images were, then predicted."""
        return self.predict_packed(pack(list(images), self.model.preprocessing))

    @torch.inference_mode()
    def predict_packed(self, images: NDArray[np.uint8], batch_size: int = BATCH_SIZE) -> Outputs:
        """uint8[N, S, S, 3] at the model's own size. Raises ModelError for another shape."""
        self._check(images)
        parts = [self._forward(images[i : i + batch_size]) for i in range(0, len(images), batch_size)]
        if not parts:
            features = int(getattr(self.network, "head_hidden_size", 0) or getattr(self.network, "num_features", 0))
            return Outputs(np.zeros((0, len(self.model.classes)), np.float32), np.zeros((0, features), np.float32))
        logits, embeddings = (torch.cat(tensors).numpy() for tensors in zip(*parts, strict=True))
        return Outputs(logits, embeddings)

    def predict_rows(self, images: NDArray[np.uint8], rows: NDArray[np.int64]) -> Outputs:
        """Some rows of a memory map uint8[N, S, S, 3], of which a batch at a time is in memory."""
        starts = range(0, max(len(rows), 1), BATCH_SIZE)
        parts = [self.predict_packed(images[rows[start : start + BATCH_SIZE]]) for start in starts]
        return Outputs(np.concatenate([p.logits for p in parts]), np.concatenate([p.embeddings for p in parts]))

    def _forward(self, images: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        device = next(self.network.parameters()).device
        pixels = normalise(_as_tensor(images).to(device), self.model.preprocessing, self.layout)
        logits, embeddings = self._look(pixels)
        if self.model.both_sides:
            others = self._look(pixels.flip(3))
            logits, embeddings = (logits + others[0]) / 2, (embeddings + others[1]) / 2
        return logits.float().cpu() / self.model.temperature, embeddings.flatten(1).float().cpu()

    def _look(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and embeddings of one view."""
        features = self.network.forward_features(pixels)  # type: ignore[operator]
        embeddings = self.network.forward_head(features, pre_logits=True)  # type: ignore[operator]
        return self.network.forward_head(features), embeddings  # type: ignore[operator]

    def _check(self, images: NDArray[np.uint8]) -> None:
        size = self.model.preprocessing.size
        if images.dtype != np.uint8 or images.shape[1:] != (size, size, 3):
            raise ModelError(
                f"{self.model.id}: uint8[N, {size}, {size}, 3] expected, {images.dtype}{list(images.shape)} found. "
                "Use classify() for decoded images of other sizes."
            )


def load_model(folder: Path, device: str = "cpu") -> Classifier:
    """The model of a folder, ready to answer. Raises ModelError where the manifest or the weights' hash is wrong."""
    return classifier_of(read_model(folder), check_file(folder, WEIGHTS), device)


def classifier_of(model: TrainedModel, weights: Path, device: str = "cpu") -> Classifier:
    """A model and the file of its weights, which nothing vouches for yet. Raises ModelError where they don't fit."""
    network = create(model.architecture, len(model.classes), model.preprocessing.size, model.stem)
    try:
        network.load_state_dict(load_file(weights))
    except RuntimeError as error:
        raise ModelError(
            f"{weights}: weights of {model.architecture} expected, others found: {error}. {AGAIN_AS_WRITTEN}"
        ) from error
    layout = memory_format(network)
    return Classifier(model, network.to(device).to(memory_format=layout).eval().requires_grad_(False), layout)


@torch.inference_mode()
def predict_logits(
    network: nn.Module, images: NDArray[np.uint8], preprocessing: Preprocessing, batch_size: int = BATCH_SIZE
) -> NDArray[np.float32]:
    """float32[N, C] of a network in training, which is left in the mode that it was in."""
    device, layout, training = next(network.parameters()).device, memory_format(network), network.training
    network.eval()
    starts = range(0, len(images), batch_size)
    batches = (_as_tensor(images[start : start + batch_size]).to(device) for start in starts)
    logits = [network(normalise(batch, preprocessing, layout)).float().cpu() for batch in batches]
    network.train(training)
    found: NDArray[np.float32] = torch.cat(logits).numpy()
    return found


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities float32[N, C] that sum to 1 a row."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    probabilities: NDArray[np.float32] = (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities


def _as_tensor(images: NDArray[np.uint8]) -> Tensor:
    """A copy where the array is a read-only memory map, which torch can't share safely."""
    return torch.from_numpy(np.array(images, np.uint8) if not images.flags.writeable else np.ascontiguousarray(images))

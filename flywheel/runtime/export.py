"""A model as one graph for ONNX Runtime: from bytes of pixels to calibrated logits and the embedding.

Normalisation, both sides and temperature are in the graph, so that what is served has one input and no arithmetic
around it. The graph is checked by what it answers (`choice.py`), not by trust in the exporter.
"""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from flywheel.model.inference import Classifier
from flywheel.records import TrainedModel
from flywheel.runtime.running import INPUT, OUTPUTS

TRACED = 2  # images: with one, a tracer may take the batch for a constant


class ExportError(RuntimeError):
    """A network that can't be written as a graph."""


class WholeModel(nn.Module):
    """uint8[N, S, S, 3] → logits [N, C] and embeddings [N, D]: what `Classifier.predict_packed` computes."""

    mean: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, model: TrainedModel) -> None:
        super().__init__()
        self.network = network
        self.both_sides = model.both_sides
        self.temperature = model.temperature
        mean, std = (torch.tensor(each).view(3, 1, 1) for each in (model.preprocessing.mean, model.preprocessing.std))
        self.register_buffer("mean", 255 * mean)
        self.register_buffer("scale", 1 / (255 * std))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pixels = images.permute(0, 3, 1, 2).float().sub(self.mean).mul(self.scale)
        logits, embeddings = self._look(pixels)
        if self.both_sides:
            others = self._look(pixels.flip(3))
            logits, embeddings = (logits + others[0]) / 2, (embeddings + others[1]) / 2
        return logits / self.temperature, embeddings.flatten(1)

    def _look(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.forward_features(pixels)  # type: ignore[operator]
        embeddings = self.network.forward_head(features, pre_logits=True)  # type: ignore[operator]
        return self.network.forward_head(features), embeddings  # type: ignore[operator]


def export(classifier: Classifier, file: Path) -> None:
    """Writes the graph of a model on the CPU. Raises ExportError where it has an operation that ONNX lacks.

    By torch's tracing exporter: the newer one takes 30 times as long and another two packages, for the same graph.
    """
    size = classifier.model.preprocessing.size
    images = torch.zeros((TRACED, size, size, 3), dtype=torch.uint8)
    names = [INPUT, *OUTPUTS]
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # of the tracer, for each size that it takes for a constant: they are
            torch.onnx.export(
                WholeModel(classifier.network, classifier.model).eval(),
                (images,),
                str(file),
                dynamo=False,
                input_names=names[:1],
                output_names=names[1:],
                dynamic_axes={name: {0: "images"} for name in names},
            )
    except Exception as error:  # the exporter has no base class for what it can't do
        lines = str(error).splitlines() or [type(error).__name__]
        raise ExportError(lines[0]) from error

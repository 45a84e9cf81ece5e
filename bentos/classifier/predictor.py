"""Bytes in, predictions out: the one `decode()`, the model's own preprocessing, and the model. Runs on one thread.

This module imports torch, so the service imports it in each worker only.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bentos.classifier.errors import Refusal
from bentos.classifier.image_header import ACCEPTED, checked_pixels
from flywheel.data.decode import UndecodableImage, decode
from flywheel.model.inference import Classifier, softmax
from flywheel.model.preprocessing import pack

log = logging.getLogger(__name__)

WARM_UP_BATCHES = (1, 8, 64)


@dataclass(frozen=True)
class Prediction:
    """One image's answer. It names the model that gave it, since the champion may change between two batches."""

    model_id: str
    classes: tuple[str, ...]
    logits: NDArray[np.float32]  # [C], calibrated
    probabilities: NDArray[np.float32]  # [C], their softmax

    def top(self, k: int) -> list[tuple[str, float]]:
        """The k likeliest classes; equal ones in the order of the class list."""
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.classes[position], float(self.probabilities[position])) for position in order]


class Predictor:
    """One loaded model and the limit on what it decodes."""

    def __init__(self, classifier: Classifier, most_pixels: int) -> None:
        self.classifier = classifier
        self.most_pixels = most_pixels

    def warm_up(self) -> None:
        """The first batch of each size pays for the allocations; it should not be a client's."""
        size = self.classifier.model.preprocessing.size
        for images in WARM_UP_BATCHES:
            self.classifier.predict_packed(np.zeros((images, size, size, 3), np.uint8))

    def predict(self, files: Sequence[bytes]) -> list[Prediction | Exception]:
        """One result a file, in order; a file that can't be read gets a Refusal and leaves its neighbours alone."""
        classifier = self.classifier  # read once: one batch is one model's
        packed = [self._pack(file, classifier) for file in files]
        readable = [image for image in packed if not isinstance(image, Exception)]
        if not readable:
            return [image for image in packed if isinstance(image, Exception)]
        logits = classifier.predict_packed(np.concatenate(readable)).logits
        answers = zip(logits, softmax(logits), strict=True)
        model = classifier.model
        return [
            image if isinstance(image, Exception) else Prediction(model.id, model.classes, *next(answers))
            for image in packed
        ]

    def _pack(self, file: bytes, classifier: Classifier) -> NDArray[np.uint8] | Exception:
        """uint8[1, S, S, 3]. Packed one by one: a batch of photographs at full size would fill the memory."""
        try:
            checked_pixels(file, self.most_pixels)
            return pack([decode(file)], classifier.model.preprocessing)
        except Refusal as refusal:
            return refusal
        except UndecodableImage as error:
            return Refusal(422, "undecodable_image", f"The image can't be decoded: {error}", ACCEPTED)
        except Exception:  # the border: whatever a decoder does on hostile bytes, it is this one image's failure
            log.exception("an image of %d bytes failed outside decode's own checks", len(file))
            return Refusal(422, "undecodable_image", "The image can't be decoded.", ACCEPTED)

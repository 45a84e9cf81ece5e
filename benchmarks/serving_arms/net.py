"""What every arm serves: the same decode, preprocessing, engine and model, and the same answer."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flywheel.data.decode import decode
from flywheel.model.inference import softmax
from flywheel.runtime.running import RunningModel, load_running

FOLDER = "SERVED_MODEL"  # the variable that names the model's folder
TOP = 5
BATCH = 64
WARM_UP = (1, 8, 64)


class Net:
    """The model of `SERVED_MODEL`, warmed up, on one thread."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.running: RunningModel = load_running(Path(os.environ[FOLDER]))
        for images in WARM_UP:
            self.of_pixels([np.zeros((32, 32, 3), np.uint8)] * images)

    def of_files(self, files: Sequence[bytes]) -> list[dict[str, Any]]:
        return self.of_pixels([decode(file) for file in files])

    def of_pixels(self, images: Sequence[NDArray[np.uint8]]) -> list[dict[str, Any]]:
        model = self.running.model
        answers = []
        for row in softmax(self.running.classify(images).logits):
            best = np.argsort(-row, kind="stable")[:TOP].tolist()
            scores = [{"label": model.classes[place], "confidence": round(float(row[place]), 6)} for place in best]
            answers.append({**scores[0], "top_k": scores, "model_id": model.id})
        return answers

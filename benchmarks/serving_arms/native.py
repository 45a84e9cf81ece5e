"""BentoML's own way: a batchable API that takes images. `bentoml serve benchmarks.serving_arms.native:Native`"""

from typing import Any

import bentoml
import numpy as np
from PIL import Image

from benchmarks.serving_arms.net import BATCH


@bentoml.service(workers=2, logging={"access": {"enabled": False}})
class Native:
    def __init__(self) -> None:
        from benchmarks.serving_arms.net import Net

        self.net = Net()

    @bentoml.api(batchable=True, max_batch_size=BATCH)
    def classify(self, image: list[Image.Image]) -> list[dict[str, Any]]:
        return self.net.of_pixels([np.asarray(each.convert("RGB")) for each in image])

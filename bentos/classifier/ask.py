"""What goes through the batcher. No torch in here: the process that only starts workers imports it too."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Ask:
    """One image of a request."""

    id: str  # of the prediction that it becomes
    content: bytes | NDArray[np.uint8]  # an image file, or pixels [H, W, 3]
    client: str = ""  # the key's id

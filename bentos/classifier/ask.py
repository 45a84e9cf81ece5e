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

    @property
    def size(self) -> int:
        """Bytes."""
        return self.content.nbytes if isinstance(self.content, np.ndarray) else len(self.content)

    @property
    def sticky(self) -> bytes:
        """What stays from one request of a client to its next: its key's id, without keys the image itself."""
        return self.client.encode() or bytes(self.content)

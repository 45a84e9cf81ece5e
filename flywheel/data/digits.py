"""scikit-learn's digits: 1,797 real scans of handwriting (Alpaydin and Kaynak 1998), bundled: no network needed."""

from pathlib import Path

import numpy as np
from PIL import Image

from flywheel.data.raw import making
from flywheel.progress import Progress, silent

SIDE = 32  # the scans have 8 × 8 pixels
DARKEST = 16  # of the scans' grey levels, 0 to 16


def unpack(folder: Path, progress: Progress = silent) -> None:
    """Write `<digit>/NNNN.png`, gray 32 × 32, under a temporary name that becomes `folder`."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    with making(folder, archive="scikit-learn's load_digits") as part:
        for number, (scan, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
            target = part / str(digit) / f"{number:04d}.png"
            target.parent.mkdir(exist_ok=True)
            gray = np.rint(scan * (255 / DARKEST)).astype(np.uint8)
            image = Image.fromarray(gray).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            # stored, not deflated: the same bytes with any zlib
            image.save(target, compress_level=0)
        progress("unpack digits", len(digits.target), len(digits.target))

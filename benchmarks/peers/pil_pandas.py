"""`pil_pandas.py FOLDER OUT`: the index as one writes it by hand. Each file is read, hashed and decoded by Pillow.

Needs Pillow, numpy, pandas and pyarrow. It finds no near-duplicate descriptors and no saturation or sharpness.
"""

import hashlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

IMAGES = {".jpg", ".jpeg", ".png"}


def row_of(path, folder):
    data = path.read_bytes()
    row = {"path": str(path.relative_to(folder)), "label": path.parent.name, "bytes": len(data)}
    row["sha256"] = hashlib.sha256(data).hexdigest()
    try:
        image = Image.open(io.BytesIO(data))
        mode = image.mode
        pixels = np.asarray(image.convert("RGB")) / 255.0
    except OSError as error:
        return row | {"decode_ok": False, "error": str(error)}
    row |= {"decode_ok": True, "mode": mode, "width": image.width, "height": image.height}
    means, deviations = pixels.mean((0, 1)), pixels.std((0, 1))
    row |= {f"mean_{channel}": value for channel, value in zip("rgb", means, strict=True)}
    return row | {f"std_{channel}": value for channel, value in zip("rgb", deviations, strict=True)}


def main():
    folder = Path(sys.argv[1])
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES)
    frame = pd.DataFrame([row_of(path, folder) for path in paths])
    frame.to_parquet(sys.argv[2])
    decoded = frame[frame["decode_ok"]]
    pixels = int((decoded["width"] * decoded["height"]).sum())
    print(json.dumps({"images": len(decoded), "pixels": pixels, "red": float(decoded["mean_r"].mean())}))


if __name__ == "__main__":
    main()

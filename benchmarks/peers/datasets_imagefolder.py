"""`datasets_imagefolder.py FOLDER CACHE`: `datasets` loads the folder as `imagefolder` and decodes every image once.

No hash, no measurement: only what it does to know the images and see that they decode.
"""

import json
import sys

from datasets import load_dataset


def main():
    splits = load_dataset("imagefolder", data_dir=sys.argv[1], cache_dir=sys.argv[2])
    images = pixels = 0
    for split in splits.values():
        for row in split:
            image = row["image"]
            image.load()
            images += 1
            pixels += image.width * image.height
    print(json.dumps({"images": images, "pixels": pixels}))


if __name__ == "__main__":
    main()

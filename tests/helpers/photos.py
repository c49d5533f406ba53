"""A folder of small photos, for the tests that run recipes."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_photos(root: Path) -> Path:
    """Writes 3 classes x (8 training, 4 test) images of 32 x 32 pixels that differ in colour."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 4)):
        for channel, name in enumerate(("red", "green", "blue")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 128, (32, 32, 3))
                pixels[:, :, channel] += 100
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return root

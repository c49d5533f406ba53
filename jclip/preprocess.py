"""Turns a photo into the input of the image tower, equal to OpenAI's transform pixel for pixel.

The order is OpenAI's: resize and crop in the photo's own mode, then convert to RGB. EXIF is
ignored, as there. Resizing is bicubic: the short side becomes R, the long side is rounded down. The
margin of the central crop is rounded half to even.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)  # of R, G, B in [0, 1]
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
MAX_PIXELS = 2**28  # of a resized photo; a very narrow one would fill the memory


def resize_short_side(image: Image.Image, side: int) -> Image.Image:
    """Resizes the short side to `side` pixels; the long side is rounded down.

    Raises ValueError for an image that is empty or too narrow.
    """
    short, long = sorted(image.size)
    if short == 0:
        raise ValueError(f"the image is empty: {image.width} x {image.height} pixels")
    if short == side:
        return image
    new_long = int(side * long / short)
    if side * new_long > MAX_PIXELS:
        raise ValueError(
            f"the image is too narrow: {image.width} x {image.height} pixels would become "
            f"{side} x {new_long}; crop it first"
        )
    size = (side, new_long) if image.width <= image.height else (new_long, side)
    return image.resize(size, Image.Resampling.BICUBIC)


def centre_crop(image: Image.Image, side: int) -> Image.Image:
    """Crops the middle square of an image whose sides are at least `side` pixels."""
    left, top = round((image.width - side) / 2), round((image.height - side) / 2)
    return image.crop((left, top, left + side, top + side))


def make_level_table(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Returns [3,256]: the value (level / 255 - mean) / std of each level of a channel."""
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    return (levels - mean[:, None]) / std[:, None]


def apply_level_table(pixels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Replaces each level of uint8 [H, W, 3] by its value in `table`[3,256]: float32 [3, H, W]."""
    values = np.empty((3, *pixels.shape[:2]), np.float32)
    for channel in range(3):
        # All levels are in the table. The mode "clip" saves a copy of the result.
        np.take(table[channel], pixels[:, :, channel], out=values[channel], mode="clip")
    return values


def to_array(image: Image.Image, mean: np.ndarray = MEAN, std: np.ndarray = STD) -> np.ndarray:
    """Converts an RGB image of R x R pixels to float32 [3, R, R], normalised by colour."""
    return apply_level_table(np.asarray(image), make_level_table(mean, std))


def make_preprocess(resolution: int) -> Callable[[Image.Image], np.ndarray]:
    """Returns the transform of a model with resolution R: PIL image -> float32 [3, R, R]."""

    def preprocess(image: Image.Image) -> np.ndarray:
        square = centre_crop(resize_short_side(image, resolution), resolution)
        return to_array(square.convert("RGB"))

    return preprocess

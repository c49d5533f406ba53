"""A photo to the array that the image tower takes, equal to OpenAI's transform pixel for pixel.

The order is OpenAI's: resize and crop in the own mode of the photo, then convert to RGB. EXIF
is ignored, as there. Bicubic; short side to R, long side rounded down; the margin that the central
cut leaves is rounded half to even.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)  # of R, G, B in [0, 1]
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
MAX_PIXELS = 2**28  # of a resized photo; a sliver of a photo would otherwise fill the memory


def resize_short_side(image: Image.Image, side: int) -> Image.Image:
    """Resizes so that the short side has `side` pixels; the long side is rounded down."""
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
    """Cuts the middle square out of an image whose sides are at least `side`."""
    left, top = round((image.width - side) / 2), round((image.height - side) / 2)
    return image.crop((left, top, left + side, top + side))


def make_level_table(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """[3,256]: what each of the 256 levels of a channel becomes, (level / 255 - mean) / std."""
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    return (levels - mean[:, None]) / std[:, None]


def apply_level_table(pixels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> float32 [3, H, W], each level as `table` has it."""
    found = np.empty((3, *pixels.shape[:2]), np.float32)
    for channel in range(3):
        # levels lie within the table; "clip" spares take a copy of its result
        np.take(table[channel], pixels[:, :, channel], out=found[channel], mode="clip")
    return found


def to_array(image: Image.Image, mean: np.ndarray = MEAN, std: np.ndarray = STD) -> np.ndarray:
    """An RGB image of R x R pixels -> float32 [3, R, R], normalised by colour."""
    return apply_level_table(np.asarray(image), make_level_table(mean, std))


def make_preprocess(resolution: int) -> Callable[[Image.Image], np.ndarray]:
    """The transform of a model with resolution R: PIL image -> float32 [3, R, R], normalised."""

    def preprocess(image: Image.Image) -> np.ndarray:
        cut = centre_crop(resize_short_side(image, resolution), resolution)
        return to_array(cut.convert("RGB"))

    return preprocess

"""Views of an image: the centre view that a model is tested on, and random crops.

A crop is drawn from (seed, number of the view, the image's pixels). It does not depend on file
names, order, workers or batches. Shapes: P views, R pixels a side.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from kernels import cpu_operator, resample

RATIO = (3 / 4, 4 / 3)  # least and most width / height of a crop before it is made square
TRIES = 10  # draws of a shape, of which the first that fits into the image is used
LEVELS = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)  # each level once


@dataclass(frozen=True)
class Crops:
    """How random crops are drawn."""

    scale: tuple[float, float] = (0.5, 1.0)
    """least and most share of the image's area that a crop takes"""
    flip: bool = True
    """mirror half of the crops at random; not for digits or letters"""

    def __post_init__(self):
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"scale of the crops is {low} to {high}; it must rise within (0, 1]")


@dataclass(frozen=True)
class Views:
    """Several views of each image: the centre view, then random crops."""

    count: int
    crops: Crops
    seed: int


def crop_box(
    width: int, height: int, scale: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Returns (left, top, right, bottom) in pixels of a random crop, as RandomResizedCrop does.

    The area is a uniform share of the image within `scale`; the shape is log-uniform within RATIO.
    If no draw fits, as in a very long image, it is the largest central box whose shape RATIO
    allows. Source: torchvision.
    """
    for _ in range(TRIES):
        area = width * height * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.integers(width - w + 1), rng.integers(height - h + 1)
            return int(left), int(top), int(left) + w, int(top) + h
    w = min(width, round(height * RATIO[1]))
    h = min(height, round(width / RATIO[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def random_view(image: Image.Image, side: int, crops: Crops, seed: int, view: int) -> Image.Image:
    """Returns random crop number `view`, resized to side x side pixels, RGB, mirrored or not."""
    box, mirrored = draw_crop(digest_pixels(image), image.size, crops, seed, view)
    return _crop(image.convert("RGB"), side, box, mirrored)


def digest_pixels(image: Image.Image) -> bytes:
    """Returns the SHA-256 of an image's pixels in the file's own mode."""
    return hashlib.sha256(image.tobytes()).digest()


def draw_crop(
    digest: bytes, size: tuple[int, int], crops: Crops, seed: int, view: int
) -> tuple[tuple[int, int, int, int], bool]:
    """Draws (box, whether mirrored) of view number `view` of the image with this digest."""
    entropy: Any = (seed, view, *digest)
    if 0 <= seed < 2**32:
        entropy = np.array(entropy, np.uint32)  # the same random stream, four times as fast
    rng = np.random.default_rng(entropy)
    box = crop_box(*size, crops.scale, rng)
    return box, bool(rng.random() < 0.5) and crops.flip


def _crop(
    rgb: Image.Image, side: int, box: tuple[int, int, int, int], mirrored: bool
) -> Image.Image:
    # resize(box=box) is 6 % faster, but uses pixels outside the box: the borders differ by up to 16
    crop = rgb.crop(box).resize((side, side), Image.Resampling.BICUBIC)
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else crop


def make_views(
    centre: Callable[[Image.Image], np.ndarray],
    to_array: Callable[[Image.Image], np.ndarray],
    side: int,
    crops: Crops,
    seed: int,
    count: int,
) -> Callable[[Image.Image], np.ndarray]:
    """Returns a transform of a decoded image to `count` views [P,3,R,R]: the centre, then crops.

    `centre` and `to_array` are a model's preprocessing of a photo and of a square RGB crop.
    `to_array` must convert each pixel level by itself. The image is converted and hashed once.
    `kernels.resample` resizes the crops, or Pillow under `--kernels jittor`.
    """
    table = None
    if count > 1 and cpu_operator.precision != "plain":
        table = to_array(Image.fromarray(LEVELS)).reshape(3, 256)
        resample.compiled_function()  # compiled here, before threads need it

    def views(image: Image.Image) -> np.ndarray:
        first = centre(image)
        result = np.empty((count, *first.shape), first.dtype)  # [P,3,R,R]
        result[0] = first
        if count == 1:
            return result
        rgb, digest = image.convert("RGB"), digest_pixels(image)
        drawn = [draw_crop(digest, rgb.size, crops, seed, view) for view in range(1, count)]
        if table is None:
            for (box, mirrored), out in zip(drawn, result[1:], strict=True):
                out[:] = to_array(_crop(rgb, side, box, mirrored))
        else:
            boxes = np.array([(*box, mirrored) for box, mirrored in drawn], np.int32)
            resample.resize_crops(np.asarray(rgb), boxes, table, result[1:])
        return result

    return views

"""Views of an image: the centre view that a model is tested on, and random crops.

A crop is drawn from (seed, number of the view, the image's own pixels): file names, order, workers
and batches have no part in it.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from kernels import cpu_operator, resample

RATIO = (3 / 4, 4 / 3)  # width to height of a crop before it is made square
TRIES = 10  # draws of a shape until one fits into the image
LEVELS = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)  # every level once


@dataclass(frozen=True)
class Crops:
    """How random crops are drawn."""

    scale: tuple[float, float] = (0.5, 1.0)
    """share of the image's area that a crop takes, least and most"""
    flip: bool = True
    """mirror every other crop; not for digits or letters"""

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
    """(left, top, right, bottom) in pixels of a random crop, as torchvision's RandomResizedCrop.

    Area: a uniform share of the image within `scale`. Shape: log-uniform within RATIO. Where no
    draw fits, as in a very long image, the largest middle piece whose shape RATIO allows.
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
    """The random crop number `view`, resized to side x side, RGB, mirrored or not."""
    return _cut(
        image.convert("RGB"), side, *draw(pixel_digest(image), image.size, crops, seed, view)
    )


def pixel_digest(image: Image.Image) -> bytes:
    """What an image is known by: SHA-256 of its pixels in the file's own mode."""
    return hashlib.sha256(image.tobytes()).digest()


def draw(
    digest: bytes, size: tuple[int, int], crops: Crops, seed: int, view: int
) -> tuple[tuple[int, int, int, int], bool]:
    """(box, mirrored or not) of view number `view` of the image known by `digest`."""
    entropy: Any = (seed, view, *digest)
    if 0 <= seed < 2**32:
        entropy = np.array(entropy, np.uint32)  # the same stream, four times as fast
    rng = np.random.default_rng(entropy)
    box = crop_box(*size, crops.scale, rng)
    return box, bool(rng.random() < 0.5) and crops.flip


def _cut(
    rgb: Image.Image, side: int, box: tuple[int, int, int, int], mirrored: bool
) -> Image.Image:
    # resize(box=box) saves 6 % and looks beyond the box: up to 16 of 255 apart at the borders
    cut = rgb.crop(box).resize((side, side), Image.Resampling.BICUBIC)
    return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else cut


def make_views(
    centre: Callable[[Image.Image], np.ndarray],
    to_array: Callable[[Image.Image], np.ndarray],
    side: int,
    crops: Crops,
    seed: int,
    count: int,
) -> Callable[[Image.Image], np.ndarray]:
    """A transform from one decoded image to `count` views [P,3,R,R]: the centre view, then crops.

    centre and to_array are a model's own preprocessing, of a photo and of a square RGB crop;
    to_array takes each level by itself. The image is converted and hashed once, and the views are
    written where they will lie, by `kernels.resample` or, under `--kernels jittor`, by Pillow.
    """
    table = None
    if count > 1 and cpu_operator.precision != "plain":
        table = to_array(Image.fromarray(LEVELS)).reshape(3, 256)
        resample.compiled_function()  # compiled here, before threads ask for it

    def views(image: Image.Image) -> np.ndarray:
        first = centre(image)
        found = np.empty((count, *first.shape), first.dtype)
        found[0] = first
        if count == 1:
            return found
        rgb, digest = image.convert("RGB"), pixel_digest(image)
        drawn = [draw(digest, rgb.size, crops, seed, view) for view in range(1, count)]
        if table is None:
            for crop, out in zip(drawn, found[1:], strict=True):
                out[:] = to_array(_cut(rgb, side, *crop))
        else:
            boxes = np.array([(*box, mirrored) for box, mirrored in drawn], np.int32)
            resample.resize_crops(np.asarray(rgb), boxes, table, found[1:])
        return found

    return views

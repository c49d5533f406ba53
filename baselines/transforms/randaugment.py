"""RandAugment: a few operations drawn from a fixed list, with one magnitude.

Source: Cubuk et al. 2020 (https://arxiv.org/abs/1909.13719). Operations, ranges and signs are those
of torchvision's RandAugment on PIL images (`tests/golden/baselines`).
"""

from collections.abc import Callable
from math import ceil

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from baselines.transforms.operations import Picture, to_image

LEVELS = 31  # magnitudes 0 (no or nearly no change) to 30
NEAREST = Image.Resampling.NEAREST


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    """Returns at (x, y) the input at (ax + by + c, dx + ey + f), black outside of the image."""
    return image.transform(image.size, Image.Transform.AFFINE, matrix, NEAREST)


def _enhance(kind: type) -> Callable[[Image.Image, float], Image.Image]:
    return lambda image, change: kind(image).enhance(1 + change)


OPERATIONS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "Identity": lambda image, amount: image,
    "ShearX": lambda image, share: _affine(image, (1, share, 0, 0, 1, 0)),
    "ShearY": lambda image, share: _affine(image, (1, 0, 0, share, 1, 0)),
    "TranslateX": lambda image, pixels: _affine(image, (1, 0, -int(pixels), 0, 1, 0)),
    "TranslateY": lambda image, pixels: _affine(image, (1, 0, 0, 0, 1, -int(pixels))),
    "Rotate": lambda image, degrees: image.rotate(degrees, NEAREST),
    "Brightness": _enhance(ImageEnhance.Brightness),
    "Color": _enhance(ImageEnhance.Color),
    "Contrast": _enhance(ImageEnhance.Contrast),
    "Sharpness": _enhance(ImageEnhance.Sharpness),
    "Posterize": lambda image, bits: ImageOps.posterize(image, int(bits)),
    "Solarize": lambda image, threshold: ImageOps.solarize(image, ceil(threshold)),
    "AutoContrast": lambda image, amount: ImageOps.autocontrast(image),
    "Equalize": lambda image, amount: ImageOps.equalize(image),
}
SIGNED = frozenset(list(OPERATIONS)[1:10])  # ShearX to Sharpness have a random sign


def operation_value(name: str, level: int, size: tuple[int, int]) -> float:
    """Returns the value of operation `name` at `level` 0..30 for an image of (width, height).

    Shear: a share. Translate: pixels. Rotate: degrees. Brightness to Sharpness: the factor's
    distance from 1. Posterize: remaining bits. Solarize: the threshold. Others ignore it: 0.
    """
    share = level / (LEVELS - 1)
    if name.startswith("Shear"):
        return 0.3 * share
    if name.startswith("Translate"):
        length = size[1] if name == "TranslateY" else size[0]
        return 150 / 331 * length * share
    if name == "Rotate":
        return 30 * share
    if name == "Posterize":
        return 8 - round(4 * share)
    if name == "Solarize":
        return 255 * (1 - share)
    return 0.9 * share if name in SIGNED else 0.0


def rand_augment(
    picture: Picture,
    rng: np.random.Generator,
    *,
    count: int = 2,
    magnitude: int | tuple[int, int] = 9,
) -> Image.Image:
    """Applies `count` operations, each drawn from the fourteen with equal probability.

    magnitude: the level 0..30 of all of them, or (least, most) from which each draws its own, as in
    FixMatch (there 1 to 10 of 10 levels). Raises ValueError for a level outside 0..30.
    """
    least, most = (magnitude, magnitude) if isinstance(magnitude, int) else magnitude
    if not 0 <= least <= most < LEVELS:
        raise ValueError(
            f"magnitude is {magnitude}; it must be one or two rising levels in 0..{LEVELS - 1}"
        )
    image = to_image(picture)
    names = list(OPERATIONS)
    for index in rng.integers(len(names), size=count):
        name = names[index]
        level = int(rng.integers(least, most + 1)) if least < most else least
        value = operation_value(name, level, image.size)
        if name in SIGNED and rng.random() < 0.5:
            value = -value
        image = OPERATIONS[name](image, value)
    return image

"""The composed transforms, from an image to the input of a network: `transform(image, rng)`.

Each returns float32 [3,R,R]: pixels in [0, 1], normalized by the mean and standard deviation of a
data set. All randomness comes from the NumPy Generator `rng`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from PIL import Image

from baselines.datasets.image_sets import Norm
from baselines.transforms import operations as ops
from baselines.transforms.operations import Picture
from baselines.transforms.randaugment import rand_augment
from jclip.preprocess import (
    MEAN,
    STD,
    apply_level_table,
    centre_crop,
    make_level_table,
    resize_short_side,
)

CLIP_NORM = Norm(tuple(MEAN.tolist()), tuple(STD.tolist()))
SMALL = 64  # largest side in pixels for SimCLR's settings for CIFAR (its appendix B.9)


@dataclass(frozen=True)
class Compose:
    """Operations on pixels, then normalization, then operations on the normalized array."""

    operations: tuple[Callable[[Picture, Any], Picture], ...]
    """each takes (picture, rng) and returns a picture"""
    norm: Norm
    array_operations: tuple[Callable[[np.ndarray, Any], np.ndarray], ...] = ()
    """each takes (array[3,R,R], rng) and returns an array"""

    @cached_property
    def _levels(self) -> np.ndarray:
        """[3,256]: the normalized value of each of 256 levels in each channel."""
        return make_level_table(*(np.array(values, np.float32) for values in self.norm))

    def __call__(self, image: Picture, rng: np.random.Generator | None = None) -> np.ndarray:
        """Transforms an RGB image, PIL or uint8 [H,W,3], to float32 [3,R,R]."""
        for operation in self.operations:
            image = operation(image, rng)
        array = apply_level_table(ops.to_array(image), self._levels)
        for array_operation in self.array_operations:
            array = array_operation(array, rng)
        return array


def cifar_transform(side: int, norm: Norm) -> Compose:
    """The usual training crop of small images: zero-padded by an eighth of the side, mirrored."""
    crop = partial(ops.random_padded_crop, padding=side // 8)
    return Compose((partial(ops.resize, side=side), crop, ops.random_flip), norm)


def _weak_operations(side: int) -> tuple:
    crop = partial(ops.random_padded_crop, padding=side // 8, mode="reflect")
    return partial(ops.resize, side=side), ops.random_flip, crop


def weak_transform(side: int, norm: Norm) -> Compose:
    """FixMatch's weak augmentation: mirrored, shifted by up to an eighth, reflected borders."""
    return Compose(_weak_operations(side), norm)


def strong_transform(side: int, norm: Norm) -> Compose:
    """FixMatch's strong augmentation: the weak one, two RandAugment operations, then Cutout.

    The operations have random magnitudes. Cutout has half the side, filled with the mean colour.
    """
    augment = partial(rand_augment, count=2, magnitude=(1, 30))
    cutout = partial(ops.cutout, size=side // 2)
    return Compose((*_weak_operations(side), augment), norm, (cutout,))


def simclr_transform(
    side: int, norm: Norm, *, strength: float | None = None, blur: float | None = None
) -> Compose:
    """One view for SimCLR (Chen et al. 2020, appendix A).

    A random crop, mirrored, colours jittered, sometimes grey, sometimes blurred. `strength` of the
    colours and probability of the blur are by default .5 and 0 up to 64 pixels per side, as in
    SimCLR's appendix B.9 for CIFAR-10, and 1 and .5 above.
    """
    strength = (0.5 if side <= SMALL else 1.0) if strength is None else strength
    blur = (0.0 if side <= SMALL else 0.5) if blur is None else blur
    jitter = partial(ops.random_colour_jitter, strength=strength)
    steps: tuple = (partial(ops.random_resized_crop, side=side), ops.random_flip, jitter)
    steps += (ops.random_greyscale,)
    if blur:
        steps += (partial(ops.random_gaussian_blur, chance=blur),)
    return Compose(steps, norm)


def photo_transform(
    side: int,
    norm: Norm,
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    erase: float = 0.0,
    magnitude: int = 0,
) -> Compose:
    """Training on photos: a random crop of `scale` of the area, mirrored.

    If they are not 0, two operations of RandAugment at `magnitude` follow, and random erasing with
    probability `erase`.
    """
    steps: tuple = (partial(ops.random_resized_crop, side=side, scale=scale), ops.random_flip)
    if magnitude:
        steps += (partial(rand_augment, magnitude=magnitude),)
    erasing = (partial(ops.random_erasing, chance=erase),) if erase else ()
    return Compose(steps, norm, erasing)


def eval_transform(side: int, norm: Norm) -> Compose:
    """The transform of validation and test: the short side resized, then the centre square."""
    return Compose((partial(_centre_square, side=side),), norm)


def _centre_square(picture: Picture, rng: object, *, side: int) -> Image.Image:
    return centre_crop(resize_short_side(ops.to_image(picture), side), side)

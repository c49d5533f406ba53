"""The named ways from an image to what a network takes: `pipeline(image, rng)` -> [3,R,R].

Pixels are scaled to [0, 1] and normalised by the mean and deviation of a data set (`NORMS`). All
randomness comes from the Generator that is handed in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from PIL import Image

from baselines.transforms import operations as augment
from baselines.transforms.operations import Picture
from baselines.transforms.randaugment import rand_augment
from jclip.preprocess import (
    MEAN,
    STD,
    centre_crop,
    level_table,
    looked_up,
    resize_short_side,
)

NORMS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": (tuple(MEAN.tolist()), tuple(STD.tolist())),
}
"""(mean, deviation) of R, G, B in [0, 1] over the training images; CLIP's are OpenAI's"""
SMALL = 64  # pixels a side up to which SimCLR's settings for CIFAR hold (its appendix B.9)


@dataclass(frozen=True)
class Pipeline:
    """Steps on pixels, then the normalised array, then steps on that array."""

    steps: tuple[Callable[[Picture, Any], Picture], ...]
    """of (picture, rng); one that draws nothing takes any rng"""
    norm: str = "imagenet"
    """the name of a mean and deviation in NORMS"""
    after: tuple[Callable[[np.ndarray, Any], np.ndarray], ...] = ()

    def __post_init__(self):
        if self.norm not in NORMS:
            raise ValueError(f"norm is {self.norm!r}; there are {', '.join(NORMS)}")

    @cached_property
    def _levels(self) -> np.ndarray:
        """[3,256]: what each of 256 levels becomes in each channel."""
        return level_table(*(np.array(values, np.float32) for values in NORMS[self.norm]))

    def __call__(self, image: Picture, rng: np.random.Generator | None = None) -> np.ndarray:
        """An RGB image, PIL or uint8 [H,W,3] -> float32 [3,R,R]; rng is drawn from in order."""
        for step in self.steps:
            image = step(image, rng)
        array = looked_up(augment.as_array(image), self._levels)
        for change in self.after:
            array = change(array, rng)
        return array


def cifar_train(side: int = 32, norm: str = "cifar10") -> Pipeline:
    """The usual training crop of small images: an eighth of the side padded with 0, mirrored."""
    steps = (
        partial(augment.resized, side=side),
        partial(augment.padded_crop, padding=side // 8),
        augment.flip,
    )
    return Pipeline(steps, norm)


def _weak_steps(side: int) -> tuple:
    return (
        partial(augment.resized, side=side),
        augment.flip,
        partial(augment.padded_crop, padding=side // 8, mode="reflect"),
    )


def weak(side: int = 32, norm: str = "cifar10") -> Pipeline:
    """FixMatch's weak augmentation: mirrored, shifted by up to an eighth, reflected borders."""
    return Pipeline(_weak_steps(side), norm)


def strong(side: int = 32, norm: str = "cifar10") -> Pipeline:
    """FixMatch's strong augmentation: the weak one, two operations of RandAugment at random
    magnitudes, then Cutout of half the side, filled with the mean colour.
    """
    operations = partial(rand_augment, count=2, magnitude=(1, 30))
    return Pipeline(
        (*_weak_steps(side), operations), norm, (partial(augment.cutout, size=side // 2),)
    )


def simclr(
    side: int = 32,
    norm: str = "cifar10",
    *,
    strength: float | None = None,
    blur: float | None = None,
) -> Pipeline:
    """One view for SimCLR (Chen et al. 2020, appendix A): random piece, mirrored, colours
    distorted, grey, blurred.

    strength of the colours and probability of the blur are by default .5 and 0 up to 64 pixels a
    side, as SimCLR has them on CIFAR-10 (appendix B.9), and 1 and .5 above.
    """
    strength = (0.5 if side <= SMALL else 1.0) if strength is None else strength
    blur = (0.0 if side <= SMALL else 0.5) if blur is None else blur
    steps = (
        partial(augment.resized_crop, side=side),
        augment.flip,
        partial(augment.jitter, strength=strength),
        augment.greyscale,
        *((partial(augment.gaussian_blur, chance=blur),) if blur else ()),
    )
    return Pipeline(steps, norm)


def photo_train(
    side: int = 224,
    norm: str = "imagenet",
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    erase: float = 0.0,
    magnitude: int = 0,
) -> Pipeline:
    """Training on photos: a random piece of `scale` of the area, mirrored; two operations of
    RandAugment at `magnitude` and random erasing with probability `erase` where these are not 0.
    """
    steps = (
        partial(augment.resized_crop, side=side, scale=scale),
        augment.flip,
        *((partial(rand_augment, magnitude=magnitude),) if magnitude else ()),
    )
    after = (partial(augment.random_erasing, chance=erase),) if erase else ()
    return Pipeline(steps, norm, after)


def _middle(picture: Picture, rng: object, *, side: int, share: float) -> Image.Image:
    image = resize_short_side(augment.as_image(picture), round(side / share))
    return centre_crop(image, side)


def evaluate(side: int, norm: str = "imagenet", *, share: float = 1.0) -> Pipeline:
    """What is tested: the short side resized, then the middle square; no randomness.

    share: of the short side that the square takes, .875 for ImageNet's 224 out of 256.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it must lie above 0 and be at most 1")
    return Pipeline((partial(_middle, side=side, share=share),), norm)

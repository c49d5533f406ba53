"""Random operations on one image that Jittor lacks.

Each is a pure function of an RGB image and a NumPy Generator `rng`. Geometry works on uint8 arrays
[H,W,3], colour on PIL images, and both accept either; erasing works on float32 arrays [3,H,W].
The colour operations and the blur equal torchvision's on PIL images (`tests/golden/baselines`).
"""

import functools
import math

import numpy as np
from PIL import Image, ImageEnhance
from scipy.ndimage import correlate1d

from data.views import TRIES, crop_box

Picture = Image.Image | np.ndarray
GREY = "L"  # Pillow's grey: .299 R + .587 G + .114 B


def to_image(picture: Picture) -> Image.Image:
    """Returns a picture as a PIL RGB image."""
    if isinstance(picture, np.ndarray):
        return Image.fromarray(picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def to_array(picture: Picture) -> np.ndarray:
    """Returns a picture as uint8 [H,W,3]."""
    return picture if isinstance(picture, np.ndarray) else np.asarray(to_image(picture))


def random_padded_crop(
    picture: Picture, rng: np.random.Generator, *, padding: int, mode: str = "zero"
) -> np.ndarray:
    """Pads the image by `padding` pixels on each side and crops it to its old size.

    mode: "zero" pads with black (ResNet on CIFAR, He et al. 2016), "reflect" with the mirrored
    image without its border row (FixMatch). Raises ValueError for another mode, or a padding that
    is as large as the shorter side.
    """
    pixels = to_array(picture)
    if mode not in ("zero", "reflect"):
        raise ValueError(f"mode is {mode!r}; it must be 'zero' or 'reflect'")
    if not 0 <= padding < min(pixels.shape[:2]):
        raise ValueError(f"padding is {padding}; it must be below the shorter side of the image")
    top, left = (int(offset) - padding for offset in rng.integers(2 * padding + 1, size=2))
    height, width = pixels.shape[:2]
    if mode == "reflect":
        return pixels.take(_mirrored(top, height), 0).take(_mirrored(left, width), 1)
    cut = np.zeros_like(pixels)
    inside = pixels[max(top, 0) : height + top, max(left, 0) : width + left]
    above, before = max(-top, 0), max(-left, 0)
    cut[above : above + inside.shape[0], before : before + inside.shape[1]] = inside
    return cut


@functools.lru_cache(maxsize=4096)
def _mirrored(first: int, length: int) -> np.ndarray:
    """Returns the indices first .. first + length - 1, mirrored into 0 .. length - 1."""
    indices = np.abs(np.arange(first, first + length))
    return np.minimum(indices, 2 * (length - 1) - indices)


def random_flip(picture: Picture, rng: np.random.Generator, *, chance: float = 0.5) -> Picture:
    """Mirrors left and right with probability `chance`."""
    if rng.random() >= chance:
        return picture
    if isinstance(picture, np.ndarray):
        return picture[:, ::-1]
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def random_resized_crop(
    picture: Picture,
    rng: np.random.Generator,
    *,
    side: int,
    scale: tuple[float, float] = (0.08, 1.0),
) -> Image.Image:
    """Resizes a random crop (`crop_box`) to side x side: torchvision's RandomResizedCrop."""
    image = to_image(picture)
    box = crop_box(image.width, image.height, scale, rng)
    return image.crop(box).resize((side, side), Image.Resampling.BICUBIC)


def resize(picture: Picture, rng: object = None, *, side: int) -> Picture:
    """Resizes to side x side by bicubic interpolation; keeps an image of that size as it is."""
    if isinstance(picture, np.ndarray) and picture.shape[:2] == (side, side):
        return picture
    image = to_image(picture)
    if image.size == (side, side):
        return image
    return image.resize((side, side), Image.Resampling.BICUBIC)


def shift_hue(image: Image.Image, share: float) -> Image.Image:
    """Turns the hue by `share` of the colour circle, -.5 to .5, in steps of 1/256."""
    hue, saturation, value = image.convert("HSV").split()
    turned = hue.point([(level + int(share * 255)) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def colour_jitter(
    picture: Picture,
    rng: np.random.Generator,
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
) -> Image.Image:
    """Changes the four properties in random order: torchvision's ColorJitter.

    Brightness, contrast and saturation are multiplied by a uniform draw from 1 - strength (at
    least 0) to 1 + strength. The hue is turned by a uniform draw from -hue to hue. Raises
    ValueError for a hue outside [0, .5].
    """
    if not 0 <= hue <= 0.5:
        raise ValueError(f"hue is {hue}; it must be between 0 and .5")
    image = to_image(picture)
    strengths = (brightness, contrast, saturation)
    low, high = [max(0.0, 1 - s) for s in strengths], [1 + s for s in strengths]
    factors = rng.uniform([*low, -hue], [*high, hue])
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for index in rng.permutation(4):
        if index == 3 and hue:
            image = shift_hue(image, factors[3])
        elif index < 3 and strengths[index]:
            image = enhancers[index](image).enhance(factors[index])
    return image


def random_colour_jitter(
    picture: Picture, rng: np.random.Generator, *, strength: float, chance: float = 0.8
) -> Picture:
    """Jitters colours by .8, .8, .8, .2 times `strength`, with probability `chance`.

    Source: SimCLR, appendix A.
    """
    if rng.random() >= chance:
        return picture
    s = strength
    return colour_jitter(
        picture, rng, brightness=0.8 * s, contrast=0.8 * s, saturation=0.8 * s, hue=0.2 * s
    )


def random_greyscale(picture: Picture, rng: np.random.Generator, *, chance: float = 0.2) -> Picture:
    """Turns all three channels to grey, with probability `chance`."""
    if rng.random() >= chance:
        return picture
    return to_image(picture).convert(GREY).convert("RGB")


def gaussian_blur(pixels: np.ndarray, sigma: float, size: int) -> np.ndarray:
    """Blurs uint8 [H,W,3] by a Gaussian of standard deviation `sigma` on size x size pixels.

    `size` is odd. The border is reflected and results are rounded half to even, as torchvision
    does.
    """
    offsets = np.arange(size, dtype=np.float32) - size // 2
    kernel = np.exp(-0.5 * (offsets / np.float32(sigma)) ** 2)
    kernel /= kernel.sum()
    blurred = correlate1d(pixels.astype(np.float32), kernel, axis=0, mode="mirror")
    blurred = correlate1d(blurred, kernel, axis=1, mode="mirror")
    return np.rint(blurred).clip(0, 255).astype(np.uint8)


def random_gaussian_blur(
    picture: Picture, rng: np.random.Generator, *, chance: float = 0.5
) -> Picture:
    """Blurs with a uniform standard deviation from .1 to 2, with probability `chance`.

    The kernel has a tenth of the shorter side, made odd: SimCLR, appendix A.
    """
    if rng.random() >= chance:
        return picture
    pixels = to_array(picture)
    size = 2 * (min(pixels.shape[:2]) // 10 // 2) + 1
    return gaussian_blur(pixels, rng.uniform(0.1, 2.0), size)


def random_erasing(
    array: np.ndarray, rng: np.random.Generator, *, chance: float = 0.5
) -> np.ndarray:
    """Returns array[3,H,W] with a random rectangle of 0, with probability `chance`.

    The rectangle takes a uniform share of the area, .02 to .33; its height to width is log-uniform
    from .3 to 3.3. If none of ten draws fits, nothing is erased, as in torchvision.
    Source: Zhong et al. 2020.
    """
    if rng.random() >= chance:
        return array
    _, height, width = array.shape
    for _ in range(TRIES):
        area = height * width * rng.uniform(0.02, 0.33)
        shape = math.exp(rng.uniform(math.log(0.3), math.log(3.3)))
        h, w = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if h < height and w < width:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            erased = array.copy()
            erased[:, top : top + h, left : left + w] = 0
            return erased
    return array


def cutout(array: np.ndarray, rng: np.random.Generator, *, size: int) -> np.ndarray:
    """Returns array[3,H,W] with a square of 0, which the border may cut (DeVries & Taylor 2017).

    Its centre is anywhere in the image.
    """
    _, height, width = array.shape
    top, left = int(rng.integers(height)) - size // 2, int(rng.integers(width)) - size // 2
    erased = array.copy()
    erased[:, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 0
    return erased

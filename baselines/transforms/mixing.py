"""Mixup and CutMix of a batch and of its soft targets (`engine.losses.soft_targets`).

Both are pure functions of arrays and a NumPy Generator. B images, R pixels per side, C classes.
"""

import numpy as np


def mixup(
    images: np.ndarray, targets: np.ndarray, rng: np.random.Generator, *, alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    """Blends images[B,3,R,R] and targets[B,C] with those of another row (Zhang et al. 2018).

    The weight of the own row is one draw of Beta(alpha, alpha) for the whole batch. Raises
    ValueError if alpha is not above 0.
    """
    weight = np.float32(_draw_beta(rng, alpha))
    partner = rng.permutation(len(images))
    return (
        weight * images + (1 - weight) * images[partner],
        weight * targets + (1 - weight) * targets[partner],
    )


def cutmix(
    images: np.ndarray, targets: np.ndarray, rng: np.random.Generator, *, alpha: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Puts a rectangle of another row's image into each of images[B,3,R,R] (Yun et al. 2019).

    The whole batch has one rectangle of the image's aspect ratio. Its share of the area is
    1 - Beta(alpha, alpha), its centre is anywhere. targets[B,C] are blended by the share of pixels
    that were exchanged, because the border may cut the rectangle. Raises ValueError if alpha is not
    above 0.
    """
    height, width = images.shape[2:]
    scale = np.sqrt(1 - _draw_beta(rng, alpha))
    h, w = int(height * scale), int(width * scale)
    y, x = int(rng.integers(height)), int(rng.integers(width))
    top, bottom = max(y - h // 2, 0), min(y + h // 2, height)
    left, right = max(x - w // 2, 0), min(x + w // 2, width)
    partner = rng.permutation(len(images))
    mixed = images.copy()
    mixed[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
    exchanged = np.float32((bottom - top) * (right - left) / (height * width))
    return mixed, (1 - exchanged) * targets + exchanged * targets[partner]


def _draw_beta(rng: np.random.Generator, alpha: float) -> float:
    if not alpha > 0:
        raise ValueError(f"alpha is {alpha}; it must be above 0")
    return rng.beta(alpha, alpha)

"""Mixup and CutMix of a batch, with the soft targets that go with them.

Pure functions of arrays and a NumPy Generator; the targets to start from are those of
`engine.losses.soft_targets`. B images, R pixels a side, C classes.
"""

import numpy as np


def mixup(
    images: np.ndarray, targets: np.ndarray, rng: np.random.Generator, *, alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    """images[B,3,R,R] and targets[B,C], each blended with another row's (Zhang et al. 2018).

    The share that is kept is one draw of Beta(alpha, alpha) for the whole batch.
    """
    kept = np.float32(_beta(rng, alpha))
    partner = rng.permutation(len(images))
    return (
        kept * images + (1 - kept) * images[partner],
        kept * targets + (1 - kept) * targets[partner],
    )


def cutmix(
    images: np.ndarray, targets: np.ndarray, rng: np.random.Generator, *, alpha: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """images[B,3,R,R] with a rectangle of another row's image in each (Yun et al. 2019).

    One rectangle for the whole batch: of the image's shape, its area 1 - Beta(alpha, alpha), its
    centre anywhere. targets[B,C] are blended by the share of pixels that was really exchanged,
    which the border may have cut.
    """
    height, width = images.shape[2:]
    side = np.sqrt(1 - _beta(rng, alpha))
    h, w = int(height * side), int(width * side)
    y, x = int(rng.integers(height)), int(rng.integers(width))
    top, bottom = max(y - h // 2, 0), min(y + h // 2, height)
    left, right = max(x - w // 2, 0), min(x + w // 2, width)
    partner = rng.permutation(len(images))
    mixed = images.copy()
    mixed[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
    exchanged = np.float32((bottom - top) * (right - left) / (height * width))
    return mixed, (1 - exchanged) * targets + exchanged * targets[partner]


def _beta(rng: np.random.Generator, alpha: float) -> float:
    if not alpha > 0:
        raise ValueError(f"alpha is {alpha}; it must be above 0 (leave the mixing out instead)")
    return rng.beta(alpha, alpha)

"""Zero-shot classification: scaled cosines of image and text features.

Shapes: N rows, C classes, E embedding.
"""

import numpy as np

from models.normalize import unit_rows

ZERO_SHOT_SCALE = 100.0  # CLIP's temperature


def text_logits(features: np.ndarray, text: np.ndarray, scale: float) -> np.ndarray:
    """Returns logits[N,C]: `scale` times the cosines of features[N,E] and text[C,E].

    Sums run in float64, so that the score of a row does not depend on other rows.
    """
    cosines = unit_rows(features.astype(np.float64)) @ unit_rows(text.astype(np.float64)).T
    return (scale * cosines).astype(np.float32)


def fit_text_scale(cosines: np.ndarray, labels: np.ndarray) -> float:
    """Returns the scale in [0, 100] that gives cosines[N,C] the least mean cross-entropy.

    Text that fits the shots keeps CLIP's scale of 100; misleading text gets a smaller one. The
    loss is convex in the scale, and is minimised by Newton's method.
    """
    target_cosines = cosines[np.arange(len(labels)), labels]  # [N]
    scale = ZERO_SHOT_SCALE
    for _ in range(50):
        logits = scale * cosines
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        mean = (p * cosines).sum(axis=1)
        slope = (mean - target_cosines).mean()
        curvature = ((p * cosines**2).sum(axis=1) - mean**2).mean()
        newton = float(np.clip(scale - slope / (curvature + 1e-12), 0.0, ZERO_SHOT_SCALE))
        if abs(newton - scale) < 1e-6:
            break
        scale = (scale + newton) / 2 if abs(newton - scale) > 20 else newton
    return scale

"""Zero-shot classification: cosines of image and text features."""

import numpy as np

from models.normalize import unit_rows


def text_logits(features: np.ndarray, text: np.ndarray, scale: float) -> np.ndarray:
    """Returns logits[N,K]: `scale` times the cosines of features[N,E] and text[K,E].

    Sums run in float64, so that the score of a row does not depend on the rows beside it.
    """
    cosines = unit_rows(features.astype(np.float64)) @ unit_rows(text.astype(np.float64)).T
    return (scale * cosines).astype(np.float32)

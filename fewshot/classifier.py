"""From features and trained parts to the scores of every class."""

from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax, logsumexp

from models.head import LPPlusPlus
from models.lpplusplus_geometry import ZERO_SHOT_SCALE, unit_rows


def class_scores(
    features: np.ndarray, text_features: np.ndarray, head: LPPlusPlus, base_ids: Sequence[int]
) -> dict[str, np.ndarray]:
    """Log-probabilities [N,C] of each way to score: "zero-shot", and "head", which is submitted.

    features[N,E], text_features[C,E]; the head's columns are the base classes in the order of
    `base_ids`. The head was trained on base classes and knows nothing of new ones, so zero-shot
    says how likely the image is of any base class at all, and the head only shares that out:

        P(c) = P_zero-shot(base) P_head(c | base)  for base c,     P_zero-shot(c)  for new c.

    Each image is scored by itself. A row of zeros (an image that could not be read) gets equal
    scores.
    """
    # added up in float64, so that a row scores the same whatever rows are beside it
    cosines = unit_rows(features.astype(np.float64)) @ text_features.T.astype(np.float64)  # [N,C]
    zero_shot = log_softmax((ZERO_SHOT_SCALE * cosines).astype(np.float32), axis=1)
    tuned = zero_shot.copy()
    known = np.flatnonzero(features.any(axis=1))
    if known.size:
        base = np.ix_(known, base_ids)
        mass = logsumexp(zero_shot[base], axis=1, keepdims=True)
        tuned[base] = mass + log_softmax(head.decision_function(features[known]), axis=1)
    return {"zero-shot": zero_shot, "head": tuned}

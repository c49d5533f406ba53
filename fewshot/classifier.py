"""From features and trained parts to the scores of every class: one function for training and test
alike.
"""

from collections.abc import Sequence

import numpy as np

from fewshot.constants import LOGIT_SCALE
from fewshot.text import unit_rows
from models.head import LPPlusPlus

HEAD_SHARE = (
    0.7  # of the tuned head in the base logits; the rest stays zero-shot (method A.10, fixed)
)


def class_scores(
    features: np.ndarray, text_features: np.ndarray, head: LPPlusPlus, base_ids: Sequence[int]
) -> dict[str, np.ndarray]:
    """scores[N,C] of each way to score, best last: "zero-shot", "head" and "blend".

    features[N,E], text_features[C,E]. New classes are always scored zero-shot; the head's own
    columns are the base classes in the order of `base_ids`.
    """
    zero_shot = LOGIT_SCALE * unit_rows(features) @ text_features.T  # [N,C]
    tuned, blend = zero_shot.copy(), zero_shot.copy()
    tuned[:, base_ids] = head.decision_function(features)
    blend[:, base_ids] += HEAD_SHARE * (tuned - zero_shot)[:, base_ids]
    return {"zero-shot": zero_shot, "head": tuned, "blend": blend}

"""Routing: base and new classes share an image by the odds that it is of any base class.

The trained parts know nothing of new classes. So they rank the base classes, zero-shot ranks the
new ones, and the log-odds of the ood stage decide between both groups.

N images, C classes, K of them base and O new.
"""

import numpy as np
from scipy.special import log_softmax

from fewshot.inference.classifiers import ENSEMBLE, ROUTED
from fewshot.inference.ensemble import Ensemble, Features
from models.heads.zero_shot import text_logits

CERTAIN = 1e6  # log-odds beyond any difference of log-probabilities within a group


def routed_scores(
    base: np.ndarray, new: np.ndarray, log_odds: np.ndarray, threshold: float, routing: str
) -> np.ndarray:
    """Returns log-scores [N,K+O], base classes first, of base[N,K] and new[N,O] logits.

    log_odds[N] are those that an image is of any base class. `routing` is one of:
    - soft: P(c) = sigmoid(log_odds) P(c | base) for a base class c, and sigmoid(-log_odds)
      P(c | new) for a new one.
    - hard: base classes come before all new ones if log_odds >= threshold, else after them.
    - none: one softmax over the logits of both groups.
    """
    if routing == "none" or not new.shape[1]:
        return log_softmax(np.hstack([base, new]).astype(np.float64), axis=1)
    if routing == "hard":
        log_odds = np.where(log_odds >= threshold, CERTAIN, -CERTAIN)
    log_base, log_new = -np.logaddexp(0, -log_odds), -np.logaddexp(0, log_odds)  # log sigmoid
    within_base = log_softmax(base.astype(np.float64), axis=1)
    within_new = log_softmax(new.astype(np.float64), axis=1)
    return np.hstack([within_base + log_base[:, None], within_new + log_new[:, None]])


def class_scores(
    ensemble: Ensemble, features: Features, log_odds: np.ndarray, threshold: float, routing: str
) -> dict[str, np.ndarray]:
    """Returns log-scores [N,C] by the id of the classifier; a column is a class id.

    "zero_shot" is CLIP's own softmax over all classes, whatever the routing. The ensemble is also
    scored under each routing (`ROUTED`). An image that could not be read gets equal scores.
    """
    text = ensemble.parts.text
    space = text.label_space
    logits = ensemble.logits(features.filled())
    new = text_logits(features.plain, text.text_features, text.logit_scale)[:, space.new_ids]

    def scores_of(classifier: str, routing: str) -> np.ndarray:
        columns = routed_scores(logits[classifier], new, log_odds, threshold, routing)
        scores = space.by_class_id(columns)
        scores[features.unreadable] = -np.log(len(space))
        return scores

    scores = {id: scores_of(id, "none" if id == "zero_shot" else routing) for id in logits}
    return scores | {form.id: scores_of(ENSEMBLE, form.routing) for form in ROUTED}

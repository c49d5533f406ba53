"""How well a score separates images of base classes from images of new ones."""

import numpy as np
from sklearn.metrics import confusion_matrix, roc_auc_score

from models.ood.gp_filter import threshold_at_tpr


def separation(score: np.ndarray, is_base: np.ndarray, threshold: float) -> dict:
    """Returns the metrics of score[N], given bool is_base[N].

    - auroc: area under the ROC curve.
    - fpr95: share of new images at or above the score that 95 % of the base images reach.
    - base_recall: share of base images at or above `threshold`.
    - new_recall: share of new images below `threshold`.
    - confusion: counts [2,2]; rows are base and new images, columns those at or above `threshold`
      and those below it.

    A share is NaN if there is no such image. Raises ValueError for scores that are NaN.
    """
    score, is_base = np.asarray(score, np.float64), np.asarray(is_base, bool)
    if score.ndim != 1 or score.shape != is_base.shape:
        raise ValueError(f"score {score.shape} and is_base {is_base.shape} must both be [N]")
    if np.isnan(score).any():
        raise ValueError("score: is NaN for some images; leave out those that could not be read")
    is_above = score >= threshold
    confusion = confusion_matrix(~is_base, ~is_above, labels=[False, True])
    base, new = score[is_base], score[~is_base]
    auroc = fpr95 = base_recall = new_recall = float("nan")
    if base.size:
        base_recall = float((base >= threshold).mean())
    if new.size:
        new_recall = float((new < threshold).mean())
    if base.size and new.size:
        limit = np.finfo(float).max  # scikit-learn takes no infinity
        auroc = float(roc_auc_score(is_base, np.clip(score, -limit, limit)))
        fpr95 = float((new >= threshold_at_tpr(base, 0.95)).mean())
    return {
        "auroc": auroc,
        "fpr95": fpr95,
        "base_recall": base_recall,
        "new_recall": new_recall,
        "confusion": confusion.tolist(),
    }

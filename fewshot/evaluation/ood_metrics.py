"""How well a score tells images of base classes from images of new ones."""

import numpy as np
from sklearn.metrics import confusion_matrix, roc_auc_score

from models.ood.gp_filter import threshold_at_tpr


def evaluate(score: np.ndarray, is_base: np.ndarray, threshold: float) -> dict:
    """Returns the figures of score[N], given bool is_base[N].

    - auroc: the area under the ROC curve.
    - fpr95: the share of new images at or above the score that 95 % of the base images reach.
    - base_kept: the share of base images at or above `threshold`.
    - new_found: the share of new images below `threshold`.
    - confusion: counts [[base kept, base lost], [new taken for base, new found]].

    A share is NaN if there is no such image. Raises ValueError for scores that are NaN.
    """
    score, is_base = np.asarray(score, np.float64), np.asarray(is_base, bool)
    if score.ndim != 1 or score.shape != is_base.shape:
        raise ValueError(f"score {score.shape} and is_base {is_base.shape}; [N] and [N] fit")
    if np.isnan(score).any():
        raise ValueError("score: is NaN for some images; leave out those that could not be read")
    kept = score >= threshold
    confusion = confusion_matrix(~is_base, ~kept, labels=[False, True])
    base, new = score[is_base], score[~is_base]
    both = base.size and new.size
    finite = np.clip(score, -np.finfo(float).max, np.finfo(float).max)  # scikit-learn takes no inf
    return {
        "auroc": float(roc_auc_score(is_base, finite)) if both else float("nan"),
        "fpr95": float((new >= threshold_at_tpr(base, 0.95)).mean()) if both else float("nan"),
        "base_kept": float(kept[is_base].mean()) if base.size else float("nan"),
        "new_found": float((~kept)[~is_base].mean()) if new.size else float("nan"),
        "confusion": confusion.tolist(),
    }

"""Is an image of a base class? Scores on logits, and how good a score is.

    mcm(base) · neglabel(base, negatives, groups) · known_names(base, new)     one image at a time
    transductive_rank_fusion(base, new)                        ranks images among each other
    models.ood.gp_filter.OodFilter                                the fitted rule: names and shots
    threshold_keeping(score of held-out base images, kept)     for any of them
    evaluate(score, is_base, threshold)                        AUROC, FPR95, confusion

Scores are log-odds [N] that an image is of any base class, in float64, so that they never saturate
at 1. Logits are cosines times CLIP's own temperature: base_logits[N,K], new_logits[N,O] of the
names of all new classes, negative_logits[N,O] of words that name no base class.
"""

import numpy as np
from scipy.special import entr, expit, log_expit, log_softmax, logsumexp
from scipy.stats import rankdata
from sklearn.metrics import confusion_matrix, roc_auc_score

from models.ood.gp_filter import threshold_keeping

__all__ = [
    "evaluate",
    "known_names",
    "mcm",
    "neglabel",
    "threshold_keeping",
    "transductive_rank_fusion",
]


def mcm(base_logits: np.ndarray) -> np.ndarray:
    """Log-odds of the largest softmax probability (Ming et al., MCM, NeurIPS 2022, at CLIP's own
    temperature); inf for a single class.
    """
    ordered = np.sort(_logits(base_logits), axis=1)
    return ordered[:, -1] - _log_mass(ordered[:, :-1])


def neglabel(
    base_logits: np.ndarray, negative_logits: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Log-odds of S = mean over groups of the mass on base names beside that group's words (Jiang
    et al., NegLabel, ICLR 2024, eq. 7).

    groups[G,m]: columns of negative_logits, as `negatives.grouped` deals them. Without any negative
    S is 1 and the log-odds inf.
    """
    base, negatives = _log_mass(_logits(base_logits)), _logits(negative_logits, len(base_logits))
    groups = np.asarray(groups, int)
    if not groups.size:
        return np.full(len(base), np.inf)
    odds = np.stack([base - _log_mass(negatives[:, group]) for group in groups])  # [G,N]
    return logsumexp(log_expit(odds), axis=0) - logsumexp(log_expit(-odds), axis=0)


def known_names(base_logits: np.ndarray, new_logits: np.ndarray) -> np.ndarray:
    """Log-odds of the softmax mass on base names, among these and the names of all new classes;
    inf where there are none.
    """
    base = _logits(base_logits)
    return _log_mass(base) - _log_mass(_logits(new_logits, len(base)))


def transductive_rank_fusion(base_logits: np.ndarray, new_logits: np.ndarray) -> np.ndarray:
    """Entropy-weighted fusion of ranks (ERF, methods D.9), in [0, 1].

    NOT inductive: an image's score depends on the other images. p = softmax over base and new
    names; the largest p of a base class and the base classes' sum are ranked among the N images,
    and each rank counts by the entropy of the other: (H_m r_s + H_s r_m) / (H_s + H_m).
    """
    base, new = _logits(base_logits), _logits(new_logits, len(base_logits))
    log_p = log_softmax(np.hstack([base, new]), axis=1)
    odds = known_names(base, new)
    largest = log_p[:, : base.shape[1]].max(axis=1)
    ranks_m, ranks_s = (rankdata(np.round(v, 6)) / len(base) for v in (largest, odds))
    entropy_s = (entr(expit(odds)) + entr(expit(-odds))) / np.log(2)
    entropy_m = -(np.exp(log_p) * log_p).sum(axis=1) / np.log(max(log_p.shape[1], 2))
    total = entropy_s + entropy_m
    fused = entropy_m * ranks_s + entropy_s * ranks_m
    return np.where(total > 1e-12, fused / np.maximum(total, 1e-12), (ranks_s + ranks_m) / 2)


def evaluate(score: np.ndarray, is_base: np.ndarray, threshold: float) -> dict:
    """How well score[N] tells base images from new ones; is_base[N] is bool.

    auroc and fpr95, the share of new images at or above the score that 95 % of the base images
    reach; base_kept and new_found, shares of the base images at or above `threshold` and of the new
    ones below; confusion [[base kept, base lost], [new taken for base, new found]], counts. Shares
    are NaN where there is no such image. Raises ValueError for scores that are NaN.
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
        "fpr95": float((new >= threshold_keeping(base, 0.95)).mean()) if both else float("nan"),
        "base_kept": float(kept[is_base].mean()) if base.size else float("nan"),
        "new_found": float((~kept)[~is_base].mean()) if new.size else float("nan"),
        "confusion": confusion.tolist(),
    }


def _log_mass(logits: np.ndarray) -> np.ndarray:
    """log sum exp of each row of logits[N,K]; -inf for K = 0."""
    if not logits.shape[1]:
        return np.full(len(logits), -np.inf)
    return logsumexp(logits, axis=1)


def _logits(values: np.ndarray, rows: int | None = None) -> np.ndarray:
    """values as float64 [N,K], or ValueError."""
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or rows not in (None, len(values)):
        raise ValueError(f"logits are {values.shape}; one row an image, the same images in all")
    if np.isnan(values).any():
        raise ValueError("logits: NaN; features of unreadable images are rows of zeros")
    return values

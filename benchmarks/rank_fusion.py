"""Transductive rank fusion: a published out-of-distribution score that the kit only measures."""

import numpy as np
from scipy.special import entr, expit, log_softmax
from scipy.stats import rankdata

from models.ood.scores import known_names


def transductive_rank_fusion(base_logits: np.ndarray, new_logits: np.ndarray) -> np.ndarray:
    """Returns scores [N] in [0, 1], the entropy-weighted fusion of two ranks (ERF).

    It is NOT inductive: the score of an image depends on the other images. p is the softmax over
    base and new names. The largest p of a base class and the sum of p over the base classes are
    ranked among the N images. Each rank is weighted by the entropy of the other:
    (H_m r_s + H_s r_m) / (H_s + H_m).
    """
    base, new = np.asarray(base_logits, np.float64), np.asarray(new_logits, np.float64)
    log_p = log_softmax(np.hstack([base, new]), axis=1)
    odds = known_names(base, new)
    largest = log_p[:, : base.shape[1]].max(axis=1)
    ranks_m, ranks_s = (rankdata(np.round(v, 6)) / len(base) for v in (largest, odds))
    entropy_s = (entr(expit(odds)) + entr(expit(-odds))) / np.log(2)
    entropy_m = -(np.exp(log_p) * log_p).sum(axis=1) / np.log(max(log_p.shape[1], 2))
    total = entropy_s + entropy_m
    fused = entropy_m * ranks_s + entropy_s * ranks_m
    return np.where(total > 1e-12, fused / np.maximum(total, 1e-12), (ranks_s + ranks_m) / 2)

"""A logit bias from a second, frozen encoder, weighed by what the shots say of it.

Source: AMU-Tuning (Tang et al., CVPR 2024, https://arxiv.org/abs/2404.08958): logits of auxiliary
features are added to CLIP's. There a linear layer is trained for 50 epochs and its weight is set
for each data set on held-out images. Here the layer is ridge regression on one-hot targets, whose
leave-one-out outputs are known in closed form, and they set both the ridge and the weight: the
shots alone decide, and features that say nothing get a weight of 0 or little more.

N shots, K classes, W width of the auxiliary features. Everything is float64 until it is stored.
"""

import numpy as np
from scipy.special import log_softmax, softmax

from models.heads.linear_head import LinearHead
from models.normalize import canonical_order, unit_rows

RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0)  # in the mean squared length of a centred row


class AuxiliaryBias(LinearHead):
    """bias[N,K] = weight * (g . W + b) for features g of length 1.

    After fit: weights_[K,W], offsets_[K] (the weight is in both), ridge_, weight_.
    """

    def fit(self, features: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> "AuxiliaryBias":
        """features[N,W], labels[N] in 0..K-1, logits[N,K] of CLIP that never saw a label.

        Raises ValueError for arrays that do not fit together or are not finite.
        """
        features, labels, logits = (np.asarray(values) for values in (features, labels, logits))
        if features.ndim != 2 or labels.shape != features.shape[:1]:
            raise ValueError(f"features {features.shape} and labels {labels.shape} do not fit")
        if logits.ndim != 2 or len(logits) != len(labels):
            raise ValueError(f"logits {logits.shape} do not fit {len(labels)} labels")
        if not 0 <= labels.min() <= labels.max() < logits.shape[1]:
            raise ValueError(f"a label is outside 0..{logits.shape[1] - 1}, the columns of logits")
        if not (np.isfinite(features).all() and np.isfinite(logits).all()):
            raise ValueError("auxiliary features and zero-shot logits must be finite")
        order = canonical_order(features, labels)
        labels, logits = labels[order], logits[order].astype(np.float64)
        rows = unit_rows(features[order].astype(np.float64))
        targets = np.eye(logits.shape[1])[labels]  # [N,K]
        mean, mean_target = rows.mean(axis=0), targets.mean(axis=0)
        centred = rows - mean
        values, vectors = np.linalg.eigh(centred @ centred.T)  # [N], [N,N]
        size = max(np.trace(centred @ centred.T) / len(rows), 1e-12)
        best = None
        for ridge in RIDGES:
            shrink = np.maximum(values, 0) / (np.maximum(values, 0) + ridge * size)
            hat = (vectors * shrink) @ vectors.T + 1 / len(rows)  # the offset is fitted too
            share = np.diag(hat)[:, None]
            left_out = (hat @ targets - share * targets) / np.maximum(1 - share, 1e-6)  # [N,K]
            weight, loss = best_weight(left_out, logits, labels)
            if best is None or loss < best[0]:
                best = loss, ridge, weight
        assert best is not None  # RIDGES are several
        _, self.ridge_, self.weight_ = best
        inverse = (vectors / (np.maximum(values, 0) + self.ridge_ * size)) @ vectors.T
        solution = centred.T @ (inverse @ (targets - mean_target))  # [W,K]
        offsets = self.weight_ * (mean_target - mean @ solution)
        return self.keep({"weights": self.weight_ * solution.T, "offsets": offsets})


def best_weight(outputs: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """(w, loss) of the least mean cross-entropy of s * logits + w * outputs over s, w >= 0.

    Each row's outputs come from the other rows, its logits from no label at all. s is there so that
    logits too sure or too unsure do not bend w. The labels are smoothed by 1 / (N + 1), as if one
    more row said nothing: where all rows are told apart, w would have no end otherwise. Newton's
    method on two convex variables.
    """
    count, classes = logits.shape
    inputs = np.stack([logits, outputs])  # [2,N,K]
    targets = (count * np.eye(classes)[labels] + 1 / classes) / (count + 1)  # [N,K]
    own = (targets * inputs).sum(axis=2).mean(axis=1)

    def loss_of(at: np.ndarray) -> float:
        return float(-(targets * log_softmax(np.tensordot(at, inputs, 1), axis=1)).sum() / count)

    at, loss = np.array([1.0, 0.0]), loss_of(np.array([1.0, 0.0]))
    for _ in range(100):
        p = softmax(np.tensordot(at, inputs, 1), axis=1)  # [N,K]
        means = (p * inputs).sum(axis=2)  # [2,N]
        slope = means.mean(axis=1) - own
        second = np.einsum("nk,ank,bnk->ab", p, inputs, inputs) - means @ means.T
        free = (at > 0) | (slope < 0)  # a weight at 0 that would fall stays there
        curvature = (second / count + 1e-9 * np.eye(2))[np.ix_(free, free)]
        step = np.zeros(2)
        step[free] = np.linalg.solve(curvature, slope[free])
        for part in 0.5 ** np.arange(30):  # halved until the loss falls
            moved = np.maximum(at - part * step, 0)
            if loss_of(moved) < loss:
                break
        else:
            break
        done = loss - loss_of(moved) < 1e-10
        at, loss = moved, loss_of(moved)
        if done:
            break
    return float(at[1]), loss

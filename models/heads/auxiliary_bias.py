"""A logit bias from a second, frozen encoder; the shots decide its weight.

Source: AMU-Tuning (Tang et al., CVPR 2024, https://arxiv.org/abs/2404.08958), which adds logits of
auxiliary features to CLIP's. The paper trains a linear layer for 50 epochs and sets its weight for
each data set on held-out images. Here the layer is ridge regression on one-hot targets, whose
leave-one-out outputs have a closed form. These outputs set the ridge and the weight. Features that
carry no information get a weight of 0 or little more.

Shapes: N shots, C classes, W width of the auxiliary features. Everything is float64 until stored.
"""

from typing import Self

import numpy as np
from scipy.special import log_softmax, softmax

from models.heads.linear_head import LinearHead
from models.normalize import canonical_order, check_labels, unit_rows

RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0)  # in units of the mean squared length of a centred row


class AuxiliaryBias(LinearHead):
    """bias[N,C] = weight * (g . W + b) for features g of length 1.

    After `fit`: weights_[C,W] and offsets_[C] (both times the weight), ridge_, weight_.
    """

    def fit(self, features: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> Self:
        """Fits to features[N,W], labels[N] in 0..C-1 and logits[N,C] of zero-shot CLIP.

        Raises ValueError for arrays that do not fit together or are not finite.
        """
        features, labels, logits = (np.asarray(values) for values in (features, labels, logits))
        if features.ndim != 2 or labels.shape != features.shape[:1]:
            raise ValueError(f"features {features.shape} and labels {labels.shape} do not fit")
        if logits.ndim != 2 or len(logits) != len(labels):
            raise ValueError(f"logits {logits.shape} do not fit {len(labels)} labels")
        labels = check_labels(labels, len(features), logits.shape[1])
        if not (np.isfinite(features).all() and np.isfinite(logits).all()):
            raise ValueError("auxiliary features and zero-shot logits must be finite")
        order = canonical_order(features, labels)
        labels, logits = labels[order], logits[order].astype(np.float64)
        rows = unit_rows(features[order].astype(np.float64))
        targets = np.eye(logits.shape[1])[labels]  # [N,C]
        mean, mean_target = rows.mean(axis=0), targets.mean(axis=0)
        centred = rows - mean
        values, vectors = np.linalg.eigh(centred @ centred.T)  # [N], [N,N]
        size = max(np.trace(centred @ centred.T) / len(rows), 1e-12)
        best_loss = np.inf
        for ridge in RIDGES:
            shrink = np.maximum(values, 0) / (np.maximum(values, 0) + ridge * size)
            hat = (vectors * shrink) @ vectors.T + 1 / len(rows)  # the offset is fitted too
            leverage = np.diag(hat)[:, None]
            left_out = (hat @ targets - leverage * targets) / np.maximum(1 - leverage, 1e-6)
            weight, loss = fit_weight(left_out, logits, labels)
            if loss < best_loss:
                best_loss, self.ridge_, self.weight_ = loss, ridge, weight
        inverse = (vectors / (np.maximum(values, 0) + self.ridge_ * size)) @ vectors.T
        solution = centred.T @ (inverse @ (targets - mean_target))  # [W,C]
        offsets = self.weight_ * (mean_target - mean @ solution)
        return self.set_state({"weights": self.weight_ * solution.T, "offsets": offsets})


def fit_weight(outputs: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Returns (w, loss) with the least mean cross-entropy of s * logits + w * outputs; s, w >= 0.

    outputs[N,C] of each row come from the other rows, logits[N,C] from no label at all. The scale s
    keeps overconfident or underconfident logits from changing w. Labels are smoothed by
    1 / (N + 1), as if one more row were uniform; otherwise w would be infinite for separable rows.
    Newton's method minimises the convex loss of two variables.
    """
    count, classes = logits.shape
    inputs = np.stack([logits, outputs])  # [2,N,C]
    targets = (count * np.eye(classes)[labels] + 1 / classes) / (count + 1)  # [N,C]
    target_means = (targets * inputs).sum(axis=2).mean(axis=1)  # [2]

    def loss_of(scales: np.ndarray) -> float:
        log_p = log_softmax(np.tensordot(scales, inputs, 1), axis=1)
        return float(-(targets * log_p).sum() / count)

    scales = np.array([1.0, 0.0])  # s, w
    loss = loss_of(scales)
    for _ in range(100):
        p = softmax(np.tensordot(scales, inputs, 1), axis=1)  # [N,C]
        means = (p * inputs).sum(axis=2)  # [2,N]
        slope = means.mean(axis=1) - target_means
        second = np.einsum("nk,ank,bnk->ab", p, inputs, inputs) - means @ means.T
        is_free = (scales > 0) | (slope < 0)  # a scale at 0 that would fall stays there
        curvature = (second / count + 1e-9 * np.eye(2))[np.ix_(is_free, is_free)]
        step = np.zeros(2)
        step[is_free] = np.linalg.solve(curvature, slope[is_free])
        for part in 0.5 ** np.arange(30):  # halved until the loss falls
            new_scales = np.maximum(scales - part * step, 0)
            new_loss = loss_of(new_scales)
            if new_loss < loss:
                break
        else:
            break
        has_converged = loss - new_loss < 1e-10
        scales, loss = new_scales, new_loss
        if has_converged:
            break
    return float(scales[1]), loss

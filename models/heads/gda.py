"""Gaussian discriminant analysis on frozen CLIP features: a companion head in closed form.

    logits_k = f . w_k + b_k        w_k = S^-1 mu_k        b_k = log(1/K) - mu_k . S^-1 mu_k / 2

Source: Wang et al., "A Hard-to-Beat Baseline for Training-Free CLIP-based Adaptation", ICLR 2024.
The paper picks the weight of these logits next to zero-shot on a validation set. Here the shots
give it, each scored as if it had been left out. Runs on the host, in float64.

Shapes: N shots, C classes, E embedding.
"""

from typing import Self

import numpy as np

from models.heads.linear_head import LinearHead
from models.normalize import canonical_order, check_labels, check_rows, unit_rows

# Bounds of the weight next to zero-shot, whose margins are many times smaller than those of GDA.
# With two shots per class, leaving one out says too little, so that the weight does not reach 0.
SMALLEST_WEIGHT, LARGEST_WEIGHT = 0.01, 1.0


class GaussianDiscriminant(LinearHead):
    """The formula's logits, less a constant per row. The order of the shots changes no byte.

    After `fit` it also has held_out_[N,C], the logits of each shot as if it had been left out, in
    the order of the shots; NaN for the only shot of a class.
    """

    def fit(self, features: np.ndarray, labels: np.ndarray, num_classes: int) -> Self:
        """Fits the head to features[N,E] and labels[N] in 0..num_classes-1.

        Rows need not be normalised. A class without any shot is put at the mean of all shots. If no
        class has two shots, the covariance of all shots replaces that within classes. Raises
        ValueError for labels out of range and for rows that are not finite or all zeros.
        """
        features = check_rows("features", features)
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}; a classifier needs at least 2 classes")
        labels = check_labels(labels, len(features), num_classes)
        order = canonical_order(features, labels)
        rows, labels = unit_rows(features[order].astype(np.float64)), labels[order]
        # Centring adds the same number to all logits of a row, and puts a class without shots at 0.
        mean = rows.mean(axis=0)
        rows -= mean
        counts = np.bincount(labels, minlength=num_classes)
        means = np.eye(num_classes)[labels].T @ rows / np.maximum(counts, 1)[:, None]  # [C,E]
        residual = rows - means[labels]
        if counts.max() == 1:
            inverse, held_out = shrunk_inverse(rows), np.full((len(rows), num_classes), np.nan)
        else:
            inverse = shrunk_inverse(residual)
            held_out = leave_one_out_logits(rows, labels, means, residual, counts, inverse)
        weights = means @ inverse
        offsets = -0.5 * (weights * means).sum(axis=1) - weights @ mean - np.log(num_classes)
        self.held_out_ = np.empty_like(held_out)
        self.held_out_[order] = held_out
        return self.set_state({"weights": weights, "offsets": offsets})

    def fit_weight(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Returns the weight a in [0.01, 1] for logits + a * decision_function.

        It makes the shots most likely, each scored as if it had been left out. `logits`[N,C] are
        those of the other classifier (zero-shot: 100 f . t), labels[N] are as in `fit`, both in the
        same order. The weight is 0.01 if no shot can be left out. Raises ValueError before `fit`
        and after `from_state`, when the shots are not known.
        """
        if not hasattr(self, "held_out_"):
            raise ValueError("the weight follows from the shots: call fit first")
        known = np.flatnonzero(~np.isnan(self.held_out_[:, 0]))
        if not known.size:
            return SMALLEST_WEIGHT
        base = np.asarray(logits, np.float64)[known]
        added, own_labels = self.held_out_[known], np.asarray(labels)[known]
        low, high = SMALLEST_WEIGHT, LARGEST_WEIGHT
        for _ in range(30):  # the loss is convex in a: halve the interval by the sign of its slope
            middle = (low + high) / 2
            summed = base + middle * added
            p = np.exp(summed - summed.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            slope = ((p * added).sum(axis=1) - added[np.arange(len(own_labels)), own_labels]).mean()
            low, high = (low, middle) if slope > 0 else (middle, high)
        return (low + high) / 2


def shrunk_inverse(rows: np.ndarray) -> np.ndarray:
    """Returns E [(N-1) Sigma + trace(Sigma) I]^-1, [E,E], with Sigma = rows.T @ rows / (N-1).

    Rows of zeros give zeros. As a direction this is linear discriminant analysis with shrinkage
    E / (E + N - 1).
    """
    scatter, width = rows.T @ rows, rows.shape[1]
    ridge = np.trace(scatter) / max(len(rows) - 1, 1)
    if ridge == 0:
        return np.zeros((width, width))
    return width * np.linalg.inv(scatter + ridge * np.eye(width))


def leave_one_out_logits(
    rows: np.ndarray,
    labels: np.ndarray,
    means: np.ndarray,
    residual: np.ndarray,
    counts: np.ndarray,
    inverse: np.ndarray,
) -> np.ndarray:
    """Returns logits[N,C] of each row as if it had been left out; NaN for the only row of a class.

    Without row i of a class with n shots, the class mean moves by -r_i / (n-1). The scatter loses
    n/(n-1) r_i r_i^T, which changes its inverse by one rank (Sherman-Morrison). The ridge stays.
    """
    others = np.maximum(counts[labels] - 1, 1)
    lost = counts[labels] / others / rows.shape[1]  # the inverse carries a factor E
    rotated = residual @ inverse  # S^-1 r_i [N,E]
    gain = lost / (1 - lost * (rotated * residual).sum(axis=1))  # of S^-1 r r^T S^-1
    along = (rows * rotated).sum(axis=1) * gain  # [N]
    weights = means @ inverse
    sizes = (weights * means).sum(axis=1)
    logits = discriminant(rows @ weights.T, rotated @ means.T, sizes, along[:, None], gain[:, None])
    own_means = means[labels] - residual / others[:, None]  # without the row itself
    own_weights = own_means @ inverse
    product, overlap = (rows * own_weights).sum(axis=1), (own_means * rotated).sum(axis=1)
    sizes = (own_means * own_weights).sum(axis=1)
    own_logits = discriminant(product, overlap, sizes, along, gain)
    logits[np.arange(len(rows)), labels] = own_logits
    logits[counts[labels] == 1] = np.nan
    return logits


def discriminant(
    product: np.ndarray, rotated: np.ndarray, size: np.ndarray, along: np.ndarray, gain: np.ndarray
) -> np.ndarray:
    """Returns f . S'^-1 m - m . S'^-1 m / 2 with S'^-1 = S^-1 + gain S^-1 r r^T S^-1.

    The arguments are product = f . S^-1 m, rotated = m . S^-1 r, size = m . S^-1 m, and
    along = gain f . S^-1 r.
    """
    return product + along * rotated - 0.5 * (size + gain * rotated**2)

"""Gaussian discriminant analysis on frozen CLIP features: a companion head in closed form.

    logits_k = f . w_k + b_k        w_k = S^-1 mu_k        b_k = log(1/K) - mu_k . S^-1 mu_k / 2

Source: Wang et al., "A Hard-to-Beat Baseline for Training-Free CLIP-based Adaptation", ICLR 2024.
Where the paper picks the weight of these logits beside zero-shot on a validation set, here it is
read off the shots, each scored as if it had been left out. Runs on the host, in float64.
"""

import numpy as np

from models.heads.linear_head import LinearHead
from models.normalize import canonical_order, checked_rows, unit_rows

# Beside zero-shot; the margins of GDA are many times those of zero-shot. With two shots a class,
# leaving out one of them tells too little of both: the smallest is held although 0 is found.
SMALLEST_WEIGHT, LARGEST_WEIGHT = 0.01, 1.0


class GaussianDiscriminant(LinearHead):
    """The formula's logits, less a constant for each row; the same for any order of the shots.

    After fit also held_out_[N,C]: the logits of each shot as if it had been left out, in the order
    given; NaN for the only shot of a class.
    """

    def fit(self, features: np.ndarray, labels: np.ndarray, num_classes: int):
        """features[N,E], labels[N] in 0..num_classes-1; rows need not be normalised.

        A class without any shot is put at the mean of all shots. Where no class has two shots, the
        covariance within classes is unknown and that of all shots stands in. Raises ValueError
        for labels out of range and for rows that are not finite or zero.
        """
        features, labels = checked_shots(features, labels, num_classes)
        order = canonical_order(features, labels)
        rows, labels = unit_rows(features[order].astype(np.float64)), labels[order]
        # From here on about the mean of all shots: that adds the same to all logits of a row, and
        # puts a class without shots at 0.
        mean = rows.mean(axis=0)
        rows -= mean
        counts = np.bincount(labels, minlength=num_classes)
        means = np.eye(num_classes)[labels].T @ rows / np.maximum(counts, 1)[:, None]  # [C,E]
        residual = rows - means[labels]
        if counts.max() == 1:
            inverse, held_out = shrunk_inverse(rows), np.full((len(rows), num_classes), np.nan)
        else:
            inverse = shrunk_inverse(residual)
            held_out = left_out_logits(rows, labels, means, residual, counts, inverse)
        weights = means @ inverse
        offsets = -0.5 * (weights * means).sum(axis=1) - weights @ mean - np.log(num_classes)
        self.held_out_ = np.empty_like(held_out)
        self.held_out_[order] = held_out
        return self.keep({"weights": weights, "offsets": offsets})

    def weight_beside(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """a in [0.01, 1], for logits + a * decision_function.

        The one that makes the shots most likely, each scored as if left out, beside its own
        `logits`[N,C] (say of zero-shot: 100 f . t); rows and labels[N] in the order given to `fit`.
        0.01 where no shot can be left out. Raises ValueError where the shots are not known (before
        `fit`, after `from_state`).
        """
        if not hasattr(self, "held_out_"):
            raise ValueError("the weight is read off the shots: call fit first")
        known = np.flatnonzero(~np.isnan(self.held_out_[:, 0]))
        if not known.size:
            return SMALLEST_WEIGHT
        base = np.asarray(logits, np.float64)[known]
        added, own = self.held_out_[known], np.asarray(labels)[known]
        low, high = SMALLEST_WEIGHT, LARGEST_WEIGHT
        for _ in range(30):  # the loss is convex in a: halve the interval by the sign of its slope
            middle = (low + high) / 2
            summed = base + middle * added
            chances = np.exp(summed - summed.max(axis=1, keepdims=True))
            chances /= chances.sum(axis=1, keepdims=True)
            slope = ((chances * added).sum(axis=1) - added[np.arange(len(own)), own]).mean()
            low, high = (low, middle) if slope > 0 else (middle, high)
        return (low + high) / 2


def checked_shots(
    features: np.ndarray, labels: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """features[N,E] in float32, labels[N] in int64, or ValueError."""
    rows, labels = checked_rows("features", features), np.asarray(labels)
    if labels.shape != (len(rows),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels are {labels.dtype}{list(labels.shape)}; one whole number a row")
    if num_classes < 2 or labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"labels are {labels.min()}..{labels.max()} for {num_classes} classes; "
            "at least 2 classes, labels in 0..classes-1"
        )
    return rows, labels.astype(np.int64)


def shrunk_inverse(rows: np.ndarray) -> np.ndarray:
    """[E,E] = E [(N-1) Sigma + trace(Sigma) I]^-1, Sigma = rows.T @ rows / (N-1); zeros for zeros.

    As a direction this is linear discriminant analysis with shrinkage E / (E + N - 1).
    """
    scatter, width = rows.T @ rows, rows.shape[1]
    ridge = np.trace(scatter) / max(len(rows) - 1, 1)
    if ridge == 0:
        return np.zeros((width, width))
    return width * np.linalg.inv(scatter + ridge * np.eye(width))


def left_out_logits(
    rows: np.ndarray,
    labels: np.ndarray,
    means: np.ndarray,
    residual: np.ndarray,
    counts: np.ndarray,
    inverse: np.ndarray,
) -> np.ndarray:
    """Logits [N,C] of each row without it; NaN for the only row of a class.

    Without row i of a class with n shots, the class mean moves by -r_i / (n-1), and the scatter
    loses n/(n-1) r_i r_i^T, which changes its inverse by one rank (Sherman-Morrison). The ridge is
    left as it is.
    """
    others = np.maximum(counts[labels] - 1, 1)
    lost = counts[labels] / others / rows.shape[1]  # the inverse carries a factor E
    turned = residual @ inverse  # S^-1 r_i [N,E]
    gain = lost / (1 - lost * (turned * residual).sum(axis=1))  # of S^-1 r r^T S^-1
    along = (rows * turned).sum(axis=1) * gain  # [N]
    weights = means @ inverse
    found = scored(
        rows @ weights.T,
        turned @ means.T,
        (weights * means).sum(axis=1),
        along[:, None],
        gain[:, None],
    )
    own = means[labels] - residual / others[:, None]
    own_weights = own @ inverse
    found[np.arange(len(rows)), labels] = scored(
        (rows * own_weights).sum(axis=1),
        (own * turned).sum(axis=1),
        (own * own_weights).sum(axis=1),
        along,
        gain,
    )
    found[counts[labels] == 1] = np.nan
    return found


def scored(
    product: np.ndarray, turned: np.ndarray, size: np.ndarray, along: np.ndarray, gain: np.ndarray
) -> np.ndarray:
    """f . S'^-1 m - m . S'^-1 m / 2 for S'^-1 = S^-1 + gain S^-1 r r^T S^-1.

    From product = f . S^-1 m, turned = m . S^-1 r, size = m . S^-1 m, along = gain f . S^-1 r.
    """
    return product + along * turned - 0.5 * (size + gain * turned**2)

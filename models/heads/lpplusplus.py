"""LP++: a linear head on frozen CLIP features that starts from the text and learns to leave it.

    logits_k = alpha * (f . t_k) + (f - mu) . w_k + b_k

Source: Huang et al., "LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP", CVPR 2024
(blend of text and weights, steps derived from the features, a fixed number of updates).
Differences from the paper, with their reasons in docs/: a metric, a penalty whose strength is
chosen on folds of the shots, and offsets with steps of their own instead of one alpha per class.

Shapes: N rows, C classes, K classes with shots, E embedding.
"""

from typing import Self

import numpy as np

from models.heads.linear_head import LinearHead
from models.heads.zero_shot import ZERO_SHOT_SCALE, fit_text_scale
from models.normalize import canonical_order, check_shots, unit_rows

TEXT_SHARE = 0.75  # alpha, as a share of the most likely text scale; w and b fit the rest
TOTAL_SHARE = 0.3  # weight of the total scatter in the metric, in rows per class
PENALTIES = (1.25, 0.25, 0.05, 0.01)  # tried on the folds in this order, strong to weak
DEFAULT_PENALTY = 0.05  # used unless the folds clearly prefer another one
PATH_STEPS = 25  # updates per penalty on the folds; each penalty starts from the one before
PATH_MOMENTUM = 0.9
FOLDS = 4
SHOTS_FOR_FOLDS = 8  # mean rows per class; with fewer, folds mislead more than they help


class LPPlusPlus(LinearHead):
    """LP++: logits_c = f . (w_c + alpha_c t_c) + b_c.

    n_iter: number of updates; with 0 the head is exactly zero-shot, 100 f . t.
    momentum: momentum of the weights; with 0 the loss never rises.

    After `fit`: weights_[C,E], alphas_[C], offsets_[C] (centring included: b - weights_ mean),
    text_features_[C,E] (unit rows), classes_[C] (0..C-1), penalty_ (None with 0 updates),
    loss_history_ (the loss before each update and at the end).
    """

    stored = {"weights": 2, "alphas": 1, "offsets": 1, "text_features": 2}
    penalty_: float | None
    loss_history_: list[float]

    def __init__(self, n_iter: int = 100, momentum: float = 0.9):
        self.n_iter = n_iter
        self.momentum = momentum

    def fit(self, features: np.ndarray, labels: np.ndarray, text_features: np.ndarray) -> Self:
        """Fits the head to features[N,E], labels[N] in 0..C-1 and text_features[C,E].

        Rows need not be normalised. Classes without any shot keep their text. Raises ValueError
        for a setting out of range and for arrays that do not fit together, are not finite or have
        a row of zeros.
        """
        if int(self.n_iter) != self.n_iter or self.n_iter < 0:
            raise ValueError(f"n_iter is {self.n_iter}; it must be a whole number, 0 or more")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}; it must be in [0, 1)")
        features, labels, text = check_shots(features, labels, text_features)
        order = canonical_order(features, labels)
        labels = labels[order]
        features = unit_rows(features[order].astype(np.float64))
        self.text_features_ = unit_rows(text.astype(np.float64)).astype(np.float32)
        seen, labels = np.unique(labels, return_inverse=True)  # K classes are learned
        cosines = features @ self.text_features_[seen].T.astype(np.float64)  # [N,K]
        self.penalty_, self.loss_history_ = None, []
        if self.n_iter == 0:
            self._set_classes(ZERO_SHOT_SCALE)
        else:
            self._learn(features, labels, cosines, seen)
        return self

    def class_vectors(self) -> np.ndarray:
        """Returns w + alpha t, [C,E] in float64."""
        text = self.alphas_[:, None].astype(np.float64) * self.text_features_
        return super().class_vectors() + text

    def _learn(self, features, labels, cosines, seen) -> None:
        """Learns w and b of the K classes `seen` from features[N,E] and cosines[N,K]."""
        from models.heads.softmax_regression import SoftmaxRegression, descend

        self.penalty_ = choose_penalty(features, labels, cosines)
        is_training = np.ones(len(labels), bool)
        rows, mean, transform = whiten(features, labels, is_training)
        alpha = TEXT_SHARE * fit_text_scale(cosines, labels)
        regression = SoftmaxRegression(rows, cosines, labels, is_training, alpha)
        self.loss_history_ = descend(regression, self.penalty_, self.n_iter, self.momentum)
        weights = (transform @ regression.weights.numpy()).T  # [K,E], of f - mu
        offsets = regression.offsets.numpy()[0] - weights @ mean
        alpha = float(regression.alphas.numpy()[0, 0])
        self._set_classes(alpha, seen, weights=weights, offsets=offsets)

    def _set_classes(self, alpha: float, seen: np.ndarray | None = None, **learned) -> None:
        """Sets the learned arrays of the classes `seen`; the others keep w = 0, b = 0 and alpha."""
        classes = len(self.text_features_)
        state = {
            "weights": np.zeros_like(self.text_features_),
            "alphas": np.full(classes, alpha, np.float32),
            "offsets": np.zeros(classes, np.float32),
            "text_features": self.text_features_,
        }
        for name, values in learned.items():
            state[name][seen] = values
        if not all(np.isfinite(values).all() for values in state.values()):
            raise FloatingPointError(f"LP++ diverged: lower momentum {self.momentum}; 0 is stable")
        self.set_state(state)


def choose_penalty(features: np.ndarray, labels: np.ndarray, cosines: np.ndarray) -> float:
    """Returns the penalty with the least held-out cross-entropy over folds of the shots.

    features[N,E] are unit rows, labels[N] in 0..K-1, cosines[N,K]. The default is left only for a
    penalty whose gain exceeds one standard error of the paired difference. With few rows per class
    the default is kept, because folds are noise there.
    """
    from models.heads.softmax_regression import SoftmaxRegression, descend

    if len(labels) < SHOTS_FOR_FOLDS * cosines.shape[1]:
        return DEFAULT_PENALTY
    fold_of_row = deal_folds(labels, FOLDS)
    losses = np.zeros((len(PENALTIES), len(labels)))
    for fold in range(FOLDS):
        is_held_out = fold_of_row == fold
        is_training = ~is_held_out
        rows, _, _ = whiten(features, labels, is_training)
        alpha = TEXT_SHARE * fit_text_scale(cosines[is_training], labels[is_training])
        regression = SoftmaxRegression(rows, cosines, labels, is_training, alpha)
        for index, penalty in enumerate(PENALTIES):
            descend(regression, penalty, PATH_STEPS, PATH_MOMENTUM, record_losses=False)
            losses[index, is_held_out] = regression.row_losses()[is_held_out]
    change = (losses - losses[PENALTIES.index(DEFAULT_PENALTY)])[:, fold_of_row >= 0]
    upper_bounds = change.mean(axis=1) + change.std(axis=1) / np.sqrt(change.shape[1])
    return PENALTIES[int(np.argmin(upper_bounds))]


def deal_folds(labels: np.ndarray, count: int) -> np.ndarray:
    """Returns the fold of each row, [N] in 0..count-1; -1 for the only row of a class.

    Rows are dealt class by class. They are expected in canonical order, so that the folds do not
    depend on the order in which the shots came.
    """
    fold_of_row = np.empty(len(labels), np.int64)
    start = 0
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        fold_of_row[rows] = (np.arange(len(rows)) + start) % count if len(rows) > 1 else -1
        start += len(rows)
    return fold_of_row


def whiten(
    features: np.ndarray, labels: np.ndarray, is_training: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns rows[N,E] in the metric of the training rows, then its mean[E] and transform[E,E].

    Training rows get length 1, so that every shot has the same influence. Held-out rows keep their
    length, as rows to be classified do.
    """
    mean, transform = within_class_metric(features[is_training], labels[is_training])
    rows = (features - mean) @ transform
    lengths = np.linalg.norm(rows[is_training], axis=1, keepdims=True)
    rows[is_training] /= np.maximum(lengths, 1e-12)  # a row at the mean stays there
    return rows, mean, transform


def within_class_metric(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean[E] and transform[E,E]; (features - mean) @ transform has mean squared norm 1.

    transform @ transform.T is the inverse of (N-K) S_within + 0.3 K S_total + E I, up to a scale.
    Both scatters have trace E, and S_within is taken about class means that one further row draws
    towards the common mean. With one shot per class this is close to a multiple of I; with many it
    is the inverse within-class covariance of linear discriminant analysis.
    """
    rows, width = features.shape
    classes, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    mean = features.mean(axis=0)
    centred = features - mean
    if not centred.any():  # all rows are equal: there is nothing to scale
        return mean, np.eye(width)
    sums = np.eye(len(classes))[index].T @ centred  # [K,E]
    residual = centred - (sums / (counts[:, None] + 1))[index]

    def unit_trace_scatter(values: np.ndarray) -> np.ndarray:
        product = values.T @ values
        return product * (width / np.trace(product))

    shrunk = TOTAL_SHARE * len(classes) * unit_trace_scatter(centred) + width * np.eye(width)
    if rows > len(classes) and residual.any():
        shrunk += (rows - len(classes)) * unit_trace_scatter(residual)
    transform = np.linalg.inv(np.linalg.cholesky(shrunk)).T
    size = np.sqrt(((centred @ transform) ** 2).sum(axis=1).mean())
    return mean, transform / size

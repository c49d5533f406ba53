"""LP++: a linear head on frozen CLIP features that starts from the text and learns to leave it.

    logits_k = alpha * (f . t_k) + (f - mu) . w_k + b_k

Source: Huang et al., "LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP", CVPR 2024
(blend of text and weights, steps derived from the features, fixed stop). What differs here, and
why, stands in docs/head.md: a metric, a penalty, its strength chosen on folds of the shots, and
an offset a class with a step of its own where LP++ has an alpha a class.
"""

import numpy as np

from models.heads.linear_head import LinearHead
from models.heads.lpplusplus_descent import (
    Head,
    Problem,
    descend,
    descend_published,
    descend_quietly,
    row_losses,
)
from models.heads.lpplusplus_geometry import ZERO_SHOT_SCALE, folds, metric, text_weight
from models.normalize import canonical_order, checked_rows, unit_rows

FORMS = ("corrected", "published", "paper")
TEXT_SHARE = 0.75  # of the text's most likely weight; the rest of the fit is left to w and b
PENALTIES = (1.25, 0.25, 0.05, 0.01)  # strong to weak: the path that the folds are followed along
DEFAULT_PENALTY = 0.05  # held unless the folds are sure of another
PATH_STEPS = 25  # updates at each penalty of the path, each from where the last one ended
FOLDS = 4
SHOTS_FOR_FOLDS = 8  # rows a class, on average, from which folds tell more than they mislead


class LPPlusPlus(LinearHead):
    """LP++: logits_c = f . (w_c + alpha_c t_c) + b_c.

    n_iter: updates; 0 is exactly zero-shot, 100 f . t.
    form: "corrected" (the default rule), "published" (the public code's updates, which stay
        within 1e-4 of it; that code picks its best iteration on a validation set, this one stops
        at n_iter) or "paper" (the same, with alpha's gradient cleared each time).
    momentum: of all forms; 0 makes the loss of "corrected" never rise.

    After fit: weights_[C,E], alphas_[C], offsets_[C] (less what centring moved: b - weights_ mean),
    text_features_[C,E] (unit rows), classes_[C] (0..C-1), penalty_ (None where nothing was
    penalised), loss_history_ (before each update and, corrected form, at the end).
    """

    stored = {"weights": 2, "alphas": 1, "offsets": 1, "text_features": 2}

    def __init__(self, n_iter: int = 100, form: str = "corrected", momentum: float = 0.9):
        self.n_iter = n_iter
        self.form = form
        self.momentum = momentum

    def fit(self, features: np.ndarray, labels: np.ndarray, text_features: np.ndarray):
        """features[N,E], labels[N] in 0..C-1, text_features[C,E]; rows need not be normalised.

        Classes without any shot keep their text. Raises ValueError for an unknown setting and for
        arrays that do not fit together, are not finite or have a row of zeros.
        """
        self._check_settings()
        features, labels, text = checked(features, labels, text_features)
        order = canonical_order(features, labels)
        labels = labels[order]
        features = unit_rows(features[order].astype(np.float64))
        self.text_features_ = unit_rows(text.astype(np.float64)).astype(np.float32)
        seen, labels = np.unique(labels, return_inverse=True)  # what is learned: K classes
        cosines = features @ self.text_features_[seen].T.astype(np.float64)  # [N,K]
        if self.n_iter == 0:
            self._keep_zero_shot()
        elif self.form in ("published", "paper"):
            self._fit_published(features, labels, cosines, seen)
        else:
            self._fit_corrected(features, labels, cosines, seen)
        return self

    def _fit_corrected(self, features, labels, cosines, seen) -> None:
        self.penalty_: float | None = self._choose_penalty(features, labels, cosines)
        every = np.ones(len(labels), bool)
        problem, head, mean, transform = prepared(features, labels, cosines, every)
        self.loss_history_ = descend(problem, head, self.penalty_, self.n_iter, self.momentum)
        weights = (transform @ head.weights.numpy()).T  # [C,E], of f - mu
        offsets = head.offsets.numpy()[0] - weights @ mean
        alpha = float(head.alphas.numpy()[0, 0])
        self._keep(alpha, seen, weights, offsets, alpha)

    def _choose_penalty(self, features, labels, cosines) -> float:
        """The penalty with the least held-out cross-entropy, over folds of the shots.

        The default is left only for one whose gain is more than one standard error of the paired
        difference, and not at all with few rows a class, where folds are noise.
        """
        if len(labels) < SHOTS_FOR_FOLDS * cosines.shape[1]:
            return DEFAULT_PENALTY
        deal = folds(labels, FOLDS)
        losses = np.zeros((len(PENALTIES), len(labels)))
        for fold in range(FOLDS):
            problem, head, _, _ = prepared(features, labels, cosines, deal != fold)
            for row, penalty in enumerate(PENALTIES):
                descend_quietly(problem, head, penalty, PATH_STEPS)
                losses[row, deal == fold] = row_losses(problem, head)[deal == fold]
        change = (losses - losses[PENALTIES.index(DEFAULT_PENALTY)])[:, deal >= 0]
        surely = change.mean(axis=1) + change.std(axis=1) / np.sqrt(change.shape[1])
        return PENALTIES[int(np.argmin(surely))]

    def _fit_published(self, features, labels, cosines, seen) -> None:
        rows, classes = cosines.shape
        one_hot = np.eye(classes)[labels]  # [N,C]
        own = (one_hot * cosines).sum(axis=0) / one_hot.sum(axis=0)
        problem = Problem(features, cosines, labels, np.ones(rows, bool))
        start = 250 * float(own.mean())
        head = Head.start(features.T @ one_hot, start)  # class sums
        self.loss_history_ = descend_published(
            problem, head, self.n_iter, self.momentum, cleared=self.form == "paper"
        )
        self.penalty_ = None
        weights, offsets = head.weights.numpy().T, head.offsets.numpy()[0]
        self._keep(start, seen, weights, offsets, head.alphas.numpy()[0])

    def _keep_zero_shot(self) -> None:
        self.penalty_, self.loss_history_ = None, []
        self._keep(ZERO_SHOT_SCALE, [], 0, 0, ZERO_SHOT_SCALE)

    def _keep(self, alpha: float, seen, weights, offsets, alphas) -> None:
        """Stores the learned classes; the others keep w = 0, b = 0 and the common alpha."""
        classes = len(self.text_features_)
        state = {
            "weights": np.zeros_like(self.text_features_),
            "alphas": np.full(classes, alpha, np.float32),
            "offsets": np.zeros(classes, np.float32),
            "text_features": self.text_features_,
        }
        learned = {"weights": weights, "alphas": alphas, "offsets": offsets}
        for name, values in learned.items():
            state[name][seen] = values
        if not all(np.isfinite(values).all() for values in state.values()):
            raise FloatingPointError(
                f"LP++ diverged (momentum {self.momentum}): lower momentum, 0 is always stable"
            )
        self.keep(state)

    def vectors(self) -> np.ndarray:
        """w + alpha t, [C,E] in float64."""
        return super().vectors() + self.alphas_[:, None].astype(np.float64) * self.text_features_

    def _check_settings(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"form is {self.form!r}; it must be one of {', '.join(FORMS)}")
        if int(self.n_iter) != self.n_iter or self.n_iter < 0:
            raise ValueError(f"n_iter is {self.n_iter}; it must be a whole number, 0 or more")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}; it must be in [0, 1)")


def prepared(
    features: np.ndarray, labels: np.ndarray, cosines: np.ndarray, learned: np.ndarray
) -> tuple[Problem, Head, np.ndarray, np.ndarray]:
    """The problem and its start in the metric of the learned rows, then the metric itself.

    Learned rows are brought to length 1 there, so that every shot pulls alike; rows held out keep
    their length, as rows to be classified do.
    """
    mean, transform = metric(features[learned], labels[learned])
    rows = (features - mean) @ transform
    lengths = np.linalg.norm(rows[learned], axis=1, keepdims=True)
    rows[learned] /= np.maximum(lengths, 1e-12)  # a row at the mean stays there
    problem = Problem(rows, cosines, labels, learned)
    alpha = TEXT_SHARE * text_weight(cosines[learned], labels[learned])
    start = np.zeros((features.shape[1], cosines.shape[1]))  # w = 0
    return problem, Head.start(start, alpha), mean, transform


def checked(
    features: np.ndarray, labels: np.ndarray, text_features: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """features[N,E] and text_features[C,E] in float32, labels[N] in int64, or one ValueError."""
    text = checked_rows("text_features", text_features)
    if len(text) < 2:
        raise ValueError("text_features has 1 row; a classifier needs at least 2 classes")
    rows = checked_rows("features", features, text.shape[1])
    labels = np.asarray(labels)
    if labels.shape != (len(rows),):
        raise ValueError(f"labels has shape {labels.shape}; it must be ({len(rows)},)")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels are {labels.dtype}; they must be whole numbers")
    if labels.min() < 0 or labels.max() >= len(text):
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise ValueError(f"label {wrong} is outside 0..{len(text) - 1}, the rows of text_features")
    return rows, labels.astype(np.int64), text

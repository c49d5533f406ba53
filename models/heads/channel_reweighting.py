"""Channel re-weighting: a scale and a shift for every channel of image and of text features.

    f' = gamma f + beta |f|        t' = gamma_t t + beta_t |t|

Source: Zhang et al., "DePT: Decoupled Prompt Tuning", CVPR 2024 (the scales and shifts, and
separate ones for image and text). DePT learns them next to a linear classifier that text rows train
too. Here the text is the classifier, and LP++ is fitted afterwards.

Shapes: N rows, C classes, K classes with shots, E embedding.
"""

from typing import Self

import numpy as np
from scipy.special import log_softmax
from sklearn.base import BaseEstimator

from models.heads.zero_shot import fit_text_scale
from models.normalize import canonical_order, check_rows, check_shots, unit_rows

PENALTY = 80.0  # on changes, per mean number of shots of a class
MOMENTUM = 0.9
STORED = ("image_scale", "image_shift", "text_scale", "text_shift")


class ChannelReweighting(BaseEstimator):
    """A scikit-learn estimator with `fit`, `transform` (images) and `transform_text`.

    n_iter: number of updates; with 0 nothing changes.

    After `fit`: image_scale_[E], image_shift_[E], text_scale_[E], text_shift_[E], loss_history_
    (the loss before each update). The order of the shots changes no byte.
    """

    def __init__(self, n_iter: int = 50):
        self.n_iter = n_iter

    def fit(self, features: np.ndarray, labels: np.ndarray, text_features: np.ndarray) -> Self:
        """Fits to features[N,E], labels[N] in 0..C-1 and text_features[C,E].

        Rows need not be normalised. Classes without any shot take no part. Raises ValueError as
        `LPPlusPlus.fit` does.
        """
        if int(self.n_iter) != self.n_iter or self.n_iter < 0:
            raise ValueError(f"n_iter is {self.n_iter}; it must be a whole number, 0 or more")
        features, labels, text = check_shots(features, labels, text_features)
        order = canonical_order(features, labels)
        seen, labels = np.unique(labels[order], return_inverse=True)  # K classes
        rows, text = (unit_rows(a.astype(np.float64)) for a in (features[order], text[seen]))
        changes, self.loss_history_ = learn_changes(rows, labels, text, self.n_iter)
        changes[1::2] /= np.sqrt(rows.shape[1])
        changes[::2] += 1
        return self.set_state(dict(zip(STORED, changes, strict=True)))

    def set_state(self, state: dict[str, np.ndarray]) -> Self:
        """Sets the arrays named in STORED, in float32."""
        for name, values in state.items():
            setattr(self, f"{name}_", np.asarray(values, np.float32))
        self.n_features_in_ = len(self.image_scale_)
        return self

    @property
    def count(self) -> int:
        """The number of learned numbers: 4E."""
        return len(STORED) * self.n_features_in_

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Returns f'[N,E] in float32 of features[N,E], which need not be normalised."""
        return self._transform("features", features, "image")

    def transform_text(self, text_features: np.ndarray) -> np.ndarray:
        """Returns t'[C,E] in float32 of text_features[C,E], for classes with shots or without."""
        return self._transform("text_features", text_features, "text")

    def _transform(self, name: str, values: np.ndarray, kind: str) -> np.ndarray:
        if not hasattr(self, "image_scale_"):
            raise ValueError("this ChannelReweighting is not fitted: call fit or from_state first")
        rows = check_rows(name, values, self.n_features_in_).astype(np.float64)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        scale, shift = getattr(self, f"{kind}_scale_"), getattr(self, f"{kind}_shift_")
        return (rows * scale + lengths * shift).astype(np.float32)

    def state(self) -> dict[str, np.ndarray]:
        """Returns the fitted arrays and nothing else; `from_state` takes them back."""
        return {name: getattr(self, f"{name}_") for name in STORED}

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> Self:
        """Returns an estimator that transforms as the stored one did.

        Raises ValueError for wrong names or shapes.
        """
        shapes = {name: np.shape(values) for name, values in state.items()}
        shape = shapes.get(STORED[0], ())
        if len(shape) != 1 or shapes != dict.fromkeys(STORED, shape):
            raise ValueError(f"not the state of a channel re-weighting: {shapes}")
        return cls().set_state(state)


class ChannelChanges:
    """Unit rows[N,E] of image or text, with their scale 1 + x and shift y / sqrt(E) so far."""

    def __init__(self, rows: np.ndarray):
        self.rows = rows
        self.changes = np.zeros((2, rows.shape[1]))  # x and y
        self.speeds = np.zeros_like(self.changes)
        self.shift_unit = 1 / np.sqrt(rows.shape[1])

    def apply(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the changed rows at unit length [N,E], and their lengths before that [N,1]."""
        scale, shift = self.changes
        changed = self.rows * (1 + scale) + self.shift_unit * shift
        lengths = np.linalg.norm(changed, axis=1, keepdims=True)
        return changed / lengths, lengths

    def update(
        self,
        slope: np.ndarray,
        units: np.ndarray,
        lengths: np.ndarray,
        step: float,
        momentum: float,
        penalty: float,
    ) -> None:
        """Makes one gradient step; slope[N,E] is the derivative by the unit rows of `apply`."""
        slope = (slope - (slope * units).sum(axis=1, keepdims=True) * units) / lengths
        slopes = np.stack([(slope * self.rows).sum(axis=0), slope.sum(axis=0) * self.shift_unit])
        self.speeds = momentum * self.speeds + slopes + penalty * self.changes
        self.changes = self.changes - step * self.speeds


def learn_changes(
    rows: np.ndarray, labels: np.ndarray, text: np.ndarray, steps: int, momentum: float = MOMENTUM
) -> tuple[np.ndarray, list[float]]:
    """Returns x and y of the image, then of the text [4,E], and the loss before each update.

    rows[N,E] and text[K,E] have length 1, labels[N] are in 0..K-1. The loss is the sum over the
    shots of the cross-entropy of s f'.t' / (|f'| |t'|), plus penalty/2 (sum x^2 + sum y^2). The
    scale s is the text's most likely one before any change. The step is 1 / (penalty + N s^2 / E),
    because a shift changes the logit of one row by s / sqrt(E) at most. Runs in float64.
    """
    width, penalty = rows.shape[1], PENALTY * len(rows) / len(text)
    scale = fit_text_scale(rows @ text.T, labels)
    step = 1 / (penalty + len(rows) * scale**2 / width)
    image_changes, text_changes = ChannelChanges(rows), ChannelChanges(text)
    targets = np.eye(len(text))[labels]  # [N,K]
    history = []
    for _ in range(steps):
        images, image_lengths = image_changes.apply()
        texts, text_lengths = text_changes.apply()
        log_p = log_softmax(scale * images @ texts.T, axis=1)  # [N,K]
        squares = (image_changes.changes**2).sum() + (text_changes.changes**2).sum()
        history.append(float(penalty / 2 * squares - (log_p * targets).sum()))
        difference = scale * (np.exp(log_p) - targets)
        image_changes.update(difference @ texts, images, image_lengths, step, momentum, penalty)
        text_changes.update(difference.T @ images, texts, text_lengths, step, momentum, penalty)
    changes = np.concatenate([image_changes.changes, text_changes.changes])
    if not np.isfinite(changes).all():
        raise FloatingPointError("channel re-weighting diverged: are the features CLIP's?")
    return changes, history

"""Channel re-weighting: a scale and a shift for every channel of image and of text features.

    f' = gamma f + beta |f|        t' = gamma_t t + beta_t |t|

Source: Zhang et al., "DePT: Decoupled Prompt Tuning", CVPR 2024 (the shifts and scales, and that
image and text have their own). What differs here: DePT learns them beside a linear classifier that
text rows train too; here the text is the classifier, and LP++ is fitted behind (docs/head.md).
"""

import numpy as np
from scipy.special import log_softmax
from sklearn.base import BaseEstimator

from models.heads.lpplusplus import checked
from models.heads.lpplusplus_geometry import text_weight
from models.normalize import canonical_order, checked_rows, unit_rows

PENALTY = 80.0  # towards no change, for each shot a class
MOMENTUM = 0.9
NAMES = ("image_scale", "image_shift", "text_scale", "text_shift")


class ChannelReweighting(BaseEstimator):
    """`fit`, then `transform` and `transform_text`; the same for any order of the shots.

    n_iter: updates; 0 is exactly no change.

    After fit: image_scale_[E], image_shift_[E], text_scale_[E], text_shift_[E], loss_history_
    (before each update).
    """

    def __init__(self, n_iter: int = 50):
        self.n_iter = n_iter

    def fit(self, features: np.ndarray, labels: np.ndarray, text_features: np.ndarray):
        """features[N,E], labels[N] in 0..C-1, text_features[C,E]; rows need not be normalised.

        Classes without any shot take no part. Raises ValueError as LPPlusPlus does.
        """
        if int(self.n_iter) != self.n_iter or self.n_iter < 0:
            raise ValueError(f"n_iter is {self.n_iter}; it must be a whole number, 0 or more")
        features, labels, text = checked(features, labels, text_features)
        order = canonical_order(features, labels)
        seen, labels = np.unique(labels[order], return_inverse=True)  # K classes
        rows, text = (unit_rows(a.astype(np.float64)) for a in (features[order], text[seen]))
        changes, self.loss_history_ = learned(rows, labels, text, self.n_iter)
        changes[1::2] /= np.sqrt(rows.shape[1])
        changes[::2] += 1
        return self._keep(dict(zip(NAMES, changes, strict=True)))

    def _keep(self, state: dict[str, np.ndarray]) -> "ChannelReweighting":
        for name, values in state.items():
            setattr(self, f"{name}_", np.asarray(values, np.float32))
        self.n_features_in_ = len(self.image_scale_)
        return self

    @property
    def count(self) -> int:
        """How many numbers are learned: 4E."""
        return len(NAMES) * self.n_features_in_

    def transform(self, features: np.ndarray) -> np.ndarray:
        """f'[N,E] in float32 of features[N,E]; their length is kept as a factor, not normalised."""
        return self._changed("features", features, "image")

    def transform_text(self, text_features: np.ndarray) -> np.ndarray:
        """t'[C,E] in float32 of text_features[C,E], of classes with shots or without."""
        return self._changed("text_features", text_features, "text")

    def _changed(self, name: str, values: np.ndarray, kind: str) -> np.ndarray:
        if not hasattr(self, "image_scale_"):
            raise ValueError("this ChannelReweighting is not fitted: call fit or from_state first")
        rows = checked_rows(name, values, self.n_features_in_).astype(np.float64)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        scale, shift = getattr(self, f"{kind}_scale_"), getattr(self, f"{kind}_shift_")
        return (rows * scale + lengths * shift).astype(np.float32)

    def state(self) -> dict[str, np.ndarray]:
        """The fitted arrays and nothing else; `from_state` takes them back."""
        return {name: getattr(self, f"{name}_") for name in NAMES}

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> "ChannelReweighting":
        """One that transforms as the stored one did. Raises ValueError for wrong names or
        shapes.
        """
        shapes = {name: np.shape(values) for name, values in state.items()}
        first = shapes.get(NAMES[0], ())
        if len(first) != 1 or shapes != dict.fromkeys(NAMES, first):
            raise ValueError(f"not the state of a channel re-weighting: {shapes}")
        return cls()._keep(state)


class Side:
    """Unit rows[N,E] of one kind, their scale gamma = 1 + x and shift beta = y / sqrt(E)."""

    def __init__(self, rows: np.ndarray):
        self.rows = rows
        self.changes = np.zeros((2, rows.shape[1]))  # x, y
        self.speeds = np.zeros_like(self.changes)
        self.shift = 1 / np.sqrt(rows.shape[1])

    def units(self) -> tuple[np.ndarray, np.ndarray]:
        """The changed rows at length 1 [N,E], and what their lengths were [N,1]."""
        scale, shift = self.changes
        changed = self.rows * (1 + scale) + self.shift * shift
        lengths = np.linalg.norm(changed, axis=1, keepdims=True)
        return changed / lengths, lengths

    def move(
        self,
        slope: np.ndarray,
        units: np.ndarray,
        lengths: np.ndarray,
        step: float,
        momentum: float,
        penalty: float,
    ) -> None:
        """One update by slope[N,E], the derivative by the unit rows."""
        slope = (slope - (slope * units).sum(axis=1, keepdims=True) * units) / lengths
        slopes = np.stack([(slope * self.rows).sum(axis=0), slope.sum(axis=0) * self.shift])
        self.speeds = momentum * self.speeds + slopes + penalty * self.changes
        self.changes = self.changes - step * self.speeds


def learned(
    rows: np.ndarray, labels: np.ndarray, text: np.ndarray, steps: int, momentum: float = MOMENTUM
) -> tuple[np.ndarray, list[float]]:
    """x and y [4,E] of the image, then of the text, and the loss before each update.

    rows[N,E], text[K,E] of length 1, labels[N]. The loss is the sum over the shots of the
    cross-entropy of s f'.t' / (|f'| |t'|), plus penalty/2 (sum x^2 + sum y^2); s is the weight of
    the text that makes the shots most likely before any change. The step is
    1 / (penalty + N s^2 / E): a shift changes the logit of one row by s / sqrt(E) at most. Runs on
    the host, in float64: at 374 classes x 4 shots the updates take seconds in all.
    """
    width, penalty = rows.shape[1], PENALTY * len(rows) / len(text)
    scale = text_weight(rows @ text.T, labels)
    settings = 1 / (penalty + len(rows) * scale**2 / width), momentum, penalty
    image, words = Side(rows), Side(text)
    targets = np.eye(len(text))[labels]  # [N,K]
    history = []
    for _ in range(steps):
        (images, image_lengths), (texts, text_lengths) = image.units(), words.units()
        chances = log_softmax(scale * images @ texts.T, axis=1)  # [N,K]
        held = (image.changes**2).sum() + (words.changes**2).sum()
        history.append(float(penalty / 2 * held - (chances * targets).sum()))
        difference = scale * (np.exp(chances) - targets)
        image.move(difference @ texts, images, image_lengths, *settings)
        words.move(difference.T @ images, texts, text_lengths, *settings)
    changes = np.concatenate([image.changes, words.changes])
    if not np.isfinite(changes).all():
        raise FloatingPointError("channel re-weighting diverged: are the features CLIP's?")
    return changes, history

"""Channel re-weighting: a scale and a shift for every channel of image and of text features.

    f' = gamma f + beta |f|        t' = gamma_t t + beta_t |t|

Source: Zhang et al., "DePT: Decoupled Prompt Tuning", CVPR 2024 (the shifts and scales, and that
image and text have their own). What differs here: DePT learns them beside a linear classifier that
text rows train too; here the text is the classifier, and LP++ is fitted behind (docs/head.md).
"""

import jittor as jt
import numpy as np
from sklearn.base import BaseEstimator

from models.head import checked, checked_rows
from models.lpplusplus_descent import variable
from models.lpplusplus_geometry import canonical_order, text_temperature, unit_rows

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
        self.rows, self.ones = variable(rows), variable(np.ones(len(rows)))  # [N,E], [1,N]
        self.changes = [variable(np.zeros(rows.shape[1])) for _ in range(2)]  # x, y [1,E]
        self.speeds = [variable(np.zeros(rows.shape[1])) for _ in range(2)]
        self.shift = variable(1 / np.sqrt(rows.shape[1]))

    def units(self) -> tuple[jt.Var, jt.Var]:
        """The changed rows at length 1 [N,E], and what their lengths were [N,1]."""
        scale, shift = self.changes
        changed = self.rows + self.rows * scale + self.shift * shift
        lengths = (changed * changed).sum(dim=1, keepdims=True).sqrt()
        return changed / lengths, lengths

    def move(self, slope: jt.Var, units: jt.Var, lengths: jt.Var, constants: list[jt.Var]) -> None:
        """One update by slope[N,E], the derivative by the unit rows."""
        step, momentum, penalty = constants
        slope = (slope - (slope * units).sum(dim=1, keepdims=True) * units) / lengths
        slopes = [jt.matmul(self.ones, slope * self.rows), jt.matmul(self.ones, slope) * self.shift]
        for block in range(2):
            pull = slopes[block] + penalty * self.changes[block]
            self.speeds[block] = momentum * self.speeds[block] + pull
            self.changes[block] = self.changes[block] - step * self.speeds[block]


def learned(
    rows: np.ndarray, labels: np.ndarray, text: np.ndarray, steps: int, momentum: float = MOMENTUM
) -> tuple[np.ndarray, list[float]]:
    """x and y [4,E] of the image, then of the text, and the loss before each update.

    rows[N,E], text[K,E] of length 1, labels[N]. The loss is the sum over the shots of the
    cross-entropy of s f'.t' / (|f'| |t'|), plus penalty/2 (sum x^2 + sum y^2); s is the weight of
    the text that makes the shots most likely before any change. The step is
    1 / (penalty + N s^2 / E), as y moves the logits of a row by s / sqrt(E) at most; with it and
    without momentum the loss was never seen to rise.
    """
    width, penalty = rows.shape[1], PENALTY * len(rows) / len(text)
    scale = text_temperature(rows @ text.T, labels)
    step = 1 / (penalty + len(rows) * scale**2 / width)
    constants = [variable(value) for value in (step, momentum, penalty)]
    image, words, scale = Side(rows), Side(text), variable(scale)
    targets = variable(np.eye(len(text))[labels])  # [N,K]
    history = []
    with jt.no_grad():
        for _ in range(steps):
            (images, image_lengths), (texts, text_lengths) = image.units(), words.units()
            logits = scale * jt.matmul(images, texts.transpose(1, 0))  # [N,K]
            powers = jt.exp(logits - logits.max(dim=1, keepdims=True))
            chances = powers / powers.sum(dim=1, keepdims=True)
            own = (chances * targets).sum(dim=1)
            difference = scale * (chances - targets)
            held = [change.numpy() for change in (*image.changes, *words.changes)]
            image.move(jt.matmul(difference, texts), images, image_lengths, constants)
            to_text = jt.matmul(difference.transpose(1, 0), images)
            words.move(to_text, texts, text_lengths, constants)
            jt.sync([*image.changes, *image.speeds, *words.changes, *words.speeds, own])
            fit = -np.log(np.maximum(own.numpy().astype(np.float64), 1e-30)).sum()
            history.append(float(fit + penalty / 2 * (np.array(held, np.float64) ** 2).sum()))
    changes = np.concatenate([part.numpy() for part in (*image.changes, *words.changes)])
    if not np.isfinite(changes).all():
        raise FloatingPointError("channel re-weighting diverged: are the features CLIP's?")
    return changes, history

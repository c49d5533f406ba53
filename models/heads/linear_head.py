"""The base class of heads whose logits are linear in an image's features.

Shapes: N rows, C classes, E embedding.
"""

from typing import ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from models.normalize import check_rows, unit_rows


class LinearHead(ClassifierMixin, BaseEstimator):
    """A scikit-learn classifier: logits[N,C] = f . w_c + b_c for features f of length 1.

    A subclass has a `fit`, which ends in `set_state`. After it the head has weights_[C,E],
    offsets_[C] and classes_[C] (0..C-1).
    """

    stored: ClassVar[dict[str, int]] = {"weights": 2, "offsets": 1}
    """the arrays of a fitted head, and how many axes of [C,E] each has"""

    def set_state(self, state: dict[str, np.ndarray]) -> Self:
        """Sets the arrays named in `stored`, in float32."""
        for name in self.stored:
            setattr(self, f"{name}_", np.ascontiguousarray(state[name], np.float32))
        classes, self.n_features_in_ = self.weights_.shape
        self.classes_ = np.arange(classes)
        return self

    def class_vectors(self) -> np.ndarray:
        """Returns w[C,E] in float64."""
        return self.weights_.astype(np.float64)

    def decision_function(self, features: np.ndarray) -> np.ndarray:
        """Returns logits[N,C] in float32 of features[N,E], which need not be normalised.

        Sums run in float64, so that a row scores the same alone as in a batch. Raises ValueError
        before `fit`, and for rows of another width, not finite or all zeros.
        """
        if not hasattr(self, "weights_"):
            name = type(self).__name__
            raise ValueError(f"this {name} is not fitted: call fit or from_state first")
        rows = check_rows("features", features, self.n_features_in_)
        rows = unit_rows(rows.astype(np.float64))
        return (rows @ self.class_vectors().T + self.offsets_).astype(np.float32)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Returns labels[N]: the class with the largest logit."""
        best = self.decision_function(features).argmax(axis=1)
        return self.classes_[best]

    def state(self) -> dict[str, np.ndarray]:
        """Returns the fitted arrays and nothing else; `from_state` takes them back."""
        return {name: getattr(self, f"{name}_") for name in self.stored}

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> Self:
        """Returns a head that scores as the stored one did.

        Raises ValueError for wrong names or shapes.
        """
        shapes = {name: np.shape(values) for name, values in state.items()}
        whole = shapes.get("weights", ())
        if len(whole) != 2 or shapes != {name: whole[:axes] for name, axes in cls.stored.items()}:
            raise ValueError(f"not the state of {cls.__name__}: {shapes}")
        return cls().set_state(state)

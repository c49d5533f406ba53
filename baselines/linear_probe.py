"""What frozen features are worth: linear layers on top, logistic regression, nearest neighbours.

N images, W width of the features, C classes.
"""

import hashlib
from collections.abc import Iterator

import jittor as jt
import numpy as np
from jittor import nn
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from engine import checkpoint
from engine.batches import ClassDraw, ShuffledBatches
from models.normalize import unit_rows

NEIGHBOURS, KNN_TEMPERATURE = 200, 0.1  # of Wu et al. 2018 (InstDisc), as SimCLR's users report


class Probe(nn.Module):
    """One or two linear layers on features, which are first centred and scaled by the training
    features' own mean and deviation.
    """

    def __init__(self, features: np.ndarray, classes: int, layers: int = 1):
        """features[N,W] of the training images. Raises ValueError for other layers than 1 or 2."""
        if layers not in (1, 2):
            raise ValueError(f"layers is {layers}; a linear evaluation has one or two")
        width = features.shape[1]
        self.mean = jt.array(features.mean(axis=0)).stop_grad()
        self.scale = jt.array(1 / (features.std(axis=0) + 1e-6)).stop_grad()
        first = [nn.Linear(width, width), nn.ReLU()] if layers == 2 else []
        self.layers = nn.Sequential(*first, nn.Linear(width, classes))

    def execute(self, features: jt.Var) -> jt.Var:
        """features[B,W] -> logits[B,C]."""
        return self.layers((features - self.mean) * self.scale)


class FeatureRows(ShuffledBatches):
    """(features[B,W], labels[B], rows[B]), shuffled anew each epoch."""

    def __init__(self, features: np.ndarray, labels: np.ndarray, batch_size: int, seed: int):
        super().__init__(labels, batch_size, ClassDraw(0, 1, 1), seed)
        self.features = features

    def epoch(self, index: int) -> Iterator[tuple[np.ndarray, ...]]:
        for rows, _, _ in self._rows(index, np.random.default_rng((self.seed, index))):
            yield self.features[rows], self.labels[rows], rows


def logistic_logits(
    features: np.ndarray, labels: np.ndarray, classes: int, test: np.ndarray
) -> np.ndarray:
    """Logits[M,C] for test[M,W] of scikit-learn's logistic regression (C 1, at most 1,000 steps of
    L-BFGS) on features scaled as `Probe` does: an independent check of the probe.
    """
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    fitted = LogisticRegression(max_iter=1000).fit((features - mean) / scale, labels)
    found = np.full((len(test), classes), -np.inf)
    found[:, fitted.classes_] = fitted.predict_log_proba((test - mean) / scale)
    return found


def knn_scores(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int,
    test: np.ndarray,
    neighbours: int = NEIGHBOURS,
    temperature: float = KNN_TEMPERATURE,
) -> np.ndarray:
    """Votes[M,C] of each test row's nearest training rows by cosine, weighted by exp(cosine / t).

    Source: Wu et al. 2018, https://arxiv.org/abs/1805.01978, section 3.4.
    """
    cosines = unit_rows(test) @ unit_rows(features).T  # [M,N]
    count = min(neighbours, len(features))
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    weights = softmax(np.take_along_axis(cosines, nearest, axis=1) / temperature, axis=1)
    votes = np.zeros((len(test), classes))
    np.add.at(votes, (np.arange(len(test))[:, None], labels[nearest]), weights)
    return votes


def weights_digest(module: jt.nn.Module) -> str:
    """SHA-256 of every parameter and buffer of a module: equal before and after where frozen."""
    digest = hashlib.sha256()
    for name, array in sorted(checkpoint.module_arrays(module).items()):
        digest.update(f"{name}\n".encode() + array.tobytes())
    return digest.hexdigest()

"""The linear classification protocol: how well linear layers classify with frozen features.

Next to it stand logistic regression and nearest neighbours. N images, W width of the features, C
classes.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import jittor as jt
import numpy as np
from jittor import nn
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from baselines.batches import SoftTargets
from baselines.datasets.image_sets import ImageSet
from baselines.results import write_result
from baselines.trainer import Baseline, classification_step
from engine import checkpoint
from engine.batches import ClassSampler, ShuffledBatches
from engine.run_log import Run
from engine.schedules import warmup_cosine
from fewshot.evaluation.metrics import accuracy
from models.normalize import unit_rows

NEIGHBOURS, KNN_TEMPERATURE = 200, 0.1  # Wu et al. 2018 (InstDisc)
EPSILON = 1e-6  # added to the standard deviation of a feature


class LinearProbe(nn.Module):
    """One or two linear layers on features, which are standardized by the training features."""

    def __init__(self, features: np.ndarray, classes: int, layers: int = 1):
        """features[N,W] of the training images. Raises ValueError unless layers is 1 or 2."""
        if layers not in (1, 2):
            raise ValueError(f"layers is {layers}; a linear evaluation has 1 or 2")
        width = features.shape[1]
        self.mean = jt.array(features.mean(axis=0)).stop_grad()
        self.scale = jt.array(1 / (features.std(axis=0) + EPSILON)).stop_grad()
        hidden = [nn.Linear(width, width), nn.ReLU()] if layers == 2 else []
        self.layers = nn.Sequential(*hidden, nn.Linear(width, classes))

    def execute(self, features: jt.Var) -> jt.Var:
        """features[B,W] -> logits[B,C]."""
        return self.layers((features - self.mean) * self.scale)


class ProbeBatches(ShuffledBatches):
    """(features[B,W], labels[B], rows[B]), shuffled again in each epoch."""

    def __init__(self, features: np.ndarray, labels: np.ndarray, batch_size: int, seed: int):
        super().__init__(labels, batch_size, ClassSampler(0, 1, 1), seed)
        self.features = features

    def epoch(self, index: int) -> Iterator[tuple[np.ndarray, ...]]:
        for rows, _, _ in self._rows(index, np.random.default_rng((self.seed, index))):
            yield self.features[rows], self.labels[rows], rows


def logistic_logits(
    features: np.ndarray, labels: np.ndarray, classes: int, test: np.ndarray
) -> np.ndarray:
    """Returns logits[M,C] for test[M,W] by scikit-learn's logistic regression on features[N,W].

    C is 1, at most 1,000 steps of L-BFGS, on standardized features: an independent check of
    `LinearProbe`.
    """
    mean, scale = features.mean(axis=0), features.std(axis=0) + EPSILON
    model = LogisticRegression(max_iter=1000).fit((features - mean) / scale, labels)
    logits = np.full((len(test), classes), -np.inf)
    logits[:, model.classes_] = model.predict_log_proba((test - mean) / scale)
    return logits


def knn_scores(
    features: np.ndarray, labels: np.ndarray, classes: int, test: np.ndarray
) -> np.ndarray:
    """Returns votes[M,C] of the nearest training rows of each test row by cosine.

    A vote weighs exp(cosine / KNN_TEMPERATURE). Source: Wu et al. 2018,
    https://arxiv.org/abs/1805.01978, section 3.4.
    """
    cosines = unit_rows(test) @ unit_rows(features).T  # [M,N]
    count = min(NEIGHBOURS, len(features))
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    weights = softmax(np.take_along_axis(cosines, nearest, axis=1) / KNN_TEMPERATURE, axis=1)
    votes = np.zeros((len(test), classes))
    np.add.at(votes, (np.arange(len(test))[:, None], labels[nearest]), weights)
    return votes


def weights_digest(module: jt.nn.Module) -> str:
    """Returns the SHA-256 of every parameter and buffer of a module."""
    digest = hashlib.sha256()
    for name, array in sorted(checkpoint.module_arrays(module).items()):
        digest.update(f"{name}\n".encode() + array.tobytes())
    return digest.hexdigest()


def evaluate_encoder(
    baseline: Baseline,
    run: Run,
    encoder: jt.nn.Module,
    forward: Callable[[jt.Var], jt.Var],
    train: ImageSet,
    val: ImageSet,
    *,
    lr: float,
    layers: int = 1,
) -> dict:
    """Trains linear layers on features of the centre views, tests once and writes the result.

    forward(images[B,3,R,R]) gives features[B,W] of `encoder`, which are computed once. The result
    also has the accuracy of nearest neighbours and of logistic regression. Raises ArithmeticError
    if a byte of the encoder changed meanwhile.
    """
    config = baseline.config
    encoder.eval()
    digest = weights_digest(encoder)
    train_features, val_features = (baseline.predict(forward, part) for part in (train, val))
    classes = len(train.class_names)
    probe = baseline.build(lambda: LinearProbe(train_features, classes, layers))
    batches = ProbeBatches(train_features, train.labels, config.batch_size, config.seed)
    optimizer = jt.optim.AdamW(probe.layers.parameters(), lr, weight_decay=config.weight_decay)
    schedule = warmup_cosine(lr, config.epochs, len(batches))
    soft, step = SoftTargets(batches, classes), classification_step(probe)
    inputs = jt.array(val_features)
    baseline.fit(
        run, probe, optimizer, soft, step, schedule, lambda: probe(inputs).numpy(), val.labels
    )
    test = baseline.test_set()
    test_features = baseline.predict(forward, test)
    if weights_digest(encoder) != digest:
        raise ArithmeticError("the encoder changed although it must stay frozen")

    def score(classify: Callable[..., np.ndarray]) -> float:
        scores = classify(train_features, train.labels, classes, test_features)
        return accuracy(scores.argmax(axis=1), test.labels)

    extra: dict[str, Any] = {"knn": score(knn_scores)}
    extra |= {"logistic regression": score(logistic_logits), "encoder_sha256": digest}
    logits = probe(jt.array(test_features)).numpy()
    return write_result(run, logits, test.labels, test.class_names, extra, baseline.sources)

"""Accuracies as fractions in [0, 1]."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student
from sklearn.metrics import accuracy_score


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Returns the share of predicted[N] that equals labels[N]."""
    return float(accuracy_score(labels, predicted))


def accuracy_of_classes(
    predicted: np.ndarray, labels: np.ndarray, ids: Sequence[int] | np.ndarray
) -> float:
    """Returns the accuracy of the images whose labels[N] are among `ids`; NaN without any."""
    rows = np.isin(labels, ids)
    return accuracy(predicted[rows], labels[rows]) if rows.any() else float("nan")


def top5_accuracy(ids: np.ndarray, labels: np.ndarray) -> float:
    """Returns the share of images whose labels[N] are among their ids[N,5]."""
    return float((ids == labels[:, None]).any(axis=1).mean())


def harmonic_mean(base: float, new: float) -> float:
    """Returns 2 base new / (base + new), the usual figure of base-to-new generalisation.

    It is 0 if both are 0.
    """
    return 2 * base * new / (base + new) if base + new else 0.0


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Returns the mean over repeats and half of its 95 % interval by Student's t.

    The half is NaN for a single value.
    """
    array = np.asarray(values, float)
    if len(array) < 2:
        return float(array.mean()), float("nan")
    error = array.std(ddof=1) / np.sqrt(len(array))
    return float(array.mean()), float(student.ppf(0.975, len(array) - 1) * error)

"""What LP++ reads off the few shots before it learns: temperature, metric, folds.

Runs once a fit, on the host, in float64: N rows, E embedding, C classes.
"""

import numpy as np

ZERO_SHOT_SCALE = 100.0  # CLIP's own temperature, so the weight of the text in zero-shot
TOTAL_SHARE = 0.3  # weight of the total scatter in the metric, in rows per class


def text_weight(cosines: np.ndarray, labels: np.ndarray) -> float:
    """The weight of the text, in [0, 100], that makes the shots most likely: argmin_a CE(a c).

    cosines[N,C] of rows and class texts. Newton's method on one convex variable. Text that fits
    the shots keeps CLIP's 100; text that says little about them is turned down.
    """
    own = cosines[np.arange(len(labels)), labels]
    value = ZERO_SHOT_SCALE
    for _ in range(50):
        logits = value * cosines
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        mean = (p * cosines).sum(axis=1)
        slope = (mean - own).mean()
        curvature = ((p * cosines**2).sum(axis=1) - mean**2).mean()
        moved = float(np.clip(value - slope / (curvature + 1e-12), 0.0, ZERO_SHOT_SCALE))
        if abs(moved - value) < 1e-6:
            break
        value = (value + moved) / 2 if abs(moved - value) > 20 else moved
    return value


def metric(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """mean[E] and map[E,E], so that rows of (features - mean) @ map have mean squared norm 1.

    map @ map.T is the inverse of (N-K) S_within + 0.3 K S_total + E I, for the K classes seen; both
    scatters are scaled to trace E, and S_within is taken about class means drawn towards the common
    mean by one row. With one shot a class nearly nothing is known and the map is close to a scale;
    with many it is the inverse within-class covariance of linear discriminant analysis.
    """
    rows, width = features.shape
    classes, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    mean = features.mean(axis=0)
    centred = features - mean
    if not centred.any():  # all rows equal: nothing to scale
        return mean, np.eye(width)
    sums = np.eye(len(classes))[index].T @ centred  # [K,E]
    residual = centred - (sums / (counts[:, None] + 1))[index]

    def scatter(values: np.ndarray) -> np.ndarray:
        product = values.T @ values
        return product * (width / np.trace(product))

    shrunk = TOTAL_SHARE * len(classes) * scatter(centred) + width * np.eye(width)
    if rows > len(classes) and residual.any():
        shrunk += (rows - len(classes)) * scatter(residual)
    transform = np.linalg.inv(np.linalg.cholesky(shrunk)).T
    size = np.sqrt(((centred @ transform) ** 2).sum(axis=1).mean())
    return mean, transform / size


def largest_eigenvalue(rows: np.ndarray) -> float:
    """lambda: the largest eigenvalue of rows.T @ rows, by way of the smaller Gram matrix."""
    gram = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    return float(np.linalg.eigvalsh(gram)[-1])


def folds(labels: np.ndarray, count: int) -> np.ndarray:
    """fold[N] in 0..count-1, dealt out class by class; -1 for the only row of a class.

    Expects rows in canonical order, so the deal does not depend on the order given.
    """
    dealt = np.empty(len(labels), np.int64)
    start = 0
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        dealt[rows] = (np.arange(len(rows)) + start) % count if len(rows) > 1 else -1
        start += len(rows)
    return dealt

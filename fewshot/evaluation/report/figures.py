"""The numbers of the report, as functions of arrays.

N images, C classes, P views. Shares are fractions in [0, 1].
"""

import numpy as np
from sklearn.metrics import confusion_matrix


def reliability(confidence: np.ndarray, is_right: np.ndarray, bins: int = 15) -> dict:
    """Sorts confidence[N] in [0, 1] into bins of equal width, and compares it with is_right[N].

    Bin b is (b/bins, (b+1)/bins]; the first one includes 0. Returns "count", "confidence" and
    "accuracy" [bins], the latter two as means, NaN in an empty bin. "ece" is
    sum_b count_b / N |accuracy_b - confidence_b| (Guo et al., ICML 2017, eq. 3).
    """
    confidence = np.asarray(confidence, np.float64)
    edges = np.arange(1, bins) / bins
    index = np.searchsorted(edges, confidence, side="left")
    count = np.bincount(index, minlength=bins)
    divisor = np.where(count, count, np.nan)
    mean = np.bincount(index, weights=confidence, minlength=bins) / divisor
    right = np.bincount(index, weights=np.asarray(is_right, np.float64), minlength=bins)
    accuracy = right / divisor
    gaps = np.nan_to_num(np.abs(accuracy - mean))
    ece = float((gaps * count).sum() / max(1, count.sum()))
    return {"count": count, "confidence": mean, "accuracy": accuracy, "ece": ece}


def domain_confusion(
    domain_of: np.ndarray, truth: np.ndarray, predicted: np.ndarray, domains: int
) -> np.ndarray:
    """Returns counts[domains,domains]; rows are true domains, columns predicted ones.

    domain_of[C] is the domain of each class, 0 to domains - 1.
    """
    return confusion_matrix(domain_of[truth], domain_of[predicted], labels=range(domains))


def worst_pairs(truth: np.ndarray, predicted: np.ndarray, most: int = 15) -> list[tuple]:
    """Returns [(true id, predicted id, images)] of the most frequent mistakes.

    Of equal ones, those with the smaller ids come first.
    """
    is_wrong = truth != predicted
    mistakes = np.stack((truth[is_wrong], predicted[is_wrong]), axis=1).astype(np.int64)
    pairs, counts = np.unique(mistakes, axis=0, return_counts=True)  # sorted by ids
    order = np.argsort(-counts, kind="stable")[:most]
    return [(int(pairs[i, 0]), int(pairs[i, 1]), int(counts[i])) for i in order]


def least_certain(confidence: np.ndarray, is_readable: np.ndarray, most: int) -> list[int]:
    """Returns the readable rows with the smallest confidence[N], smallest first."""
    rows = np.flatnonzero(is_readable)
    return rows[np.argsort(confidence[rows], kind="stable")[:most]].tolist()


def extreme_views(
    weights: np.ndarray, is_readable: np.ndarray, most: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Returns the (row, view) of the largest and of the smallest weights[N,P].

    A list has at most one view per readable row, and begins with the most extreme one. Of equal
    ones, the first row and view come first.
    """
    rows = np.flatnonzero(is_readable)
    extremes = []
    for sign in (-1, 1):
        signed = sign * weights[rows]
        views = np.argmin(signed, axis=1)
        order = np.argsort(signed[np.arange(len(rows)), views], kind="stable")[:most]
        extremes.append([(int(rows[i]), int(views[i])) for i in order])
    return extremes[0], extremes[1]

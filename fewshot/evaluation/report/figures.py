"""The numbers of the report, as plain functions of arrays; nothing here knows of pages.

N images, C classes, P views. Accuracies and shares are fractions in [0, 1].
"""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import confusion_matrix

from fewshot.evaluation.metrics import accuracy


def accuracy_of(guess: np.ndarray, truth: np.ndarray, ids: Sequence[int] | np.ndarray) -> float:
    """Share of right guess[N] among the images whose truth[N] is in `ids`; NaN without any."""
    rows = np.isin(truth, ids)
    return accuracy(guess[rows], truth[rows]) if rows.any() else float("nan")


def top5_accuracy(ids: np.ndarray, truth: np.ndarray) -> float:
    """Share of images whose truth[N] is among their ids[N,5]."""
    return float((ids == truth[:, None]).any(axis=1).mean())


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> dict:
    """What each of `bins` equally wide bins of confidence[N] in [0, 1] holds, and their ECE.

    right[N]: whether the guess was. Bin b is (b/bins, (b+1)/bins], the first one closed. Returns
    "count", "confidence" and "accuracy" [bins], the latter two means, NaN in an empty bin, and
    "ece" = sum_b count_b / N |accuracy_b - confidence_b| (Guo et al., ICML 2017, eq. 3).
    """
    confidence = np.asarray(confidence, np.float64)
    edges = np.arange(1, bins) / bins
    place = np.searchsorted(edges, confidence, side="left")
    count = np.bincount(place, minlength=bins)
    safe = np.where(count, count, np.nan)
    mean = np.bincount(place, weights=confidence, minlength=bins) / safe
    accuracy = np.bincount(place, weights=np.asarray(right, np.float64), minlength=bins) / safe
    gaps = np.nan_to_num(np.abs(accuracy - mean))
    ece = float((gaps * count).sum() / max(1, count.sum()))
    return {"count": count, "confidence": mean, "accuracy": accuracy, "ece": ece}


def routing_confusion(is_base: np.ndarray, routed_base: np.ndarray) -> np.ndarray:
    """counts[2,2]: rows are base and new images, columns those routed to base and to new."""
    return confusion_matrix(is_base, routed_base, labels=[True, False])


def domain_confusion(
    domain_of: np.ndarray, truth: np.ndarray, guess: np.ndarray, domains: int
) -> np.ndarray:
    """counts[domains,domains], rows the true domain, columns the guessed one.

    domain_of[C]: the domain of each class, 0 to domains - 1.
    """
    return confusion_matrix(domain_of[truth], domain_of[guess], labels=range(domains))


def worst_pairs(truth: np.ndarray, guess: np.ndarray, most: int = 15) -> list[tuple]:
    """[(true id, guessed id, images)] of the mistakes made most often, of equals the first ids."""
    wrong = truth != guess
    pairs, counts = np.unique(
        np.stack((truth[wrong], guess[wrong]), axis=1).astype(np.int64), axis=0, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")[:most]  # np.unique has them sorted by ids
    return [(int(pairs[i, 0]), int(pairs[i, 1]), int(counts[i])) for i in order]


def least_sure(confidence: np.ndarray, known: np.ndarray, most: int) -> list[int]:
    """Rows of the smallest confidence[N] among those that are known[N], smallest first."""
    rows = np.flatnonzero(known)
    return rows[np.argsort(confidence[rows], kind="stable")[:most]].tolist()


def extreme_views(
    inlierness: np.ndarray, known: np.ndarray, most: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The (row, view) of most and of least inlierness[N,P], one view an image at most.

    Most extreme first, of equals the first row and view; only rows that are known[N].
    """
    rows = np.flatnonzero(known)
    found = []
    for sign in (-1, 1):
        signed = sign * inlierness[rows]
        views = np.argmin(signed, axis=1)
        order = np.argsort(signed[np.arange(len(rows)), views], kind="stable")[:most]
        found.append([(int(rows[i]), int(views[i])) for i in order])
    return found[0], found[1]

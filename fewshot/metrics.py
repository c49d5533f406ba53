"""Accuracies as fractions in [0, 1]."""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import accuracy_score


def accuracy_within(scores: np.ndarray, labels: np.ndarray, ids: Sequence[int]) -> float:
    """Top-1 accuracy of the images whose label is in `ids`, choosing among `ids` only.

    scores[N,C], labels[N]. NaN where no image has such a label. This is the usual base-class (or
    new-class) accuracy.
    """
    columns = np.asarray(ids, int)
    rows = np.isin(labels, columns)
    if not rows.any():
        return float("nan")
    chosen = columns[np.argmax(scores[np.ix_(rows, columns)], axis=1)]
    return float(accuracy_score(labels[rows], chosen))


def table(rows: dict[str, dict[str, float]]) -> str:
    """Rows of accuracies as text, in percent: {"zero-shot": {"base": .5}} and so on; NaN prints as
    a dash.
    """
    columns = list(next(iter(rows.values())))
    width = max(len(name) for name in rows)
    lines = [" " * width + "".join(f"{column:>10}" for column in columns)]
    for name, values in rows.items():
        cells = (f"{100 * values[c]:.2f}" if values[c] == values[c] else "-" for c in columns)
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)

"""Accuracies as fractions in [0, 1]."""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import accuracy_score


def accuracy_within(
    scores: np.ndarray,
    labels: np.ndarray,
    ids: Sequence[int],
    among: Sequence[int] | None = None,
) -> float:
    """Top-1 accuracy of the images whose label is in `ids`, choosing `among` classes, by default
    `ids` too, which is the usual base-class (or new-class) accuracy.

    scores[N,C], labels[N]. NaN where no image has such a label.
    """
    columns = np.asarray(ids if among is None else among, int)
    rows = np.isin(labels, ids)
    if not rows.any():
        return float("nan")
    chosen = columns[np.argmax(scores[np.ix_(rows, columns)], axis=1)]
    return float(accuracy_score(labels[rows], chosen))


def table(rows: dict[str, dict[str, float | int]]) -> str:
    """Rows as text: {"zero-shot": {"base": .5, "trainable": 12}} and so on. Fractions print in
    percent, whole numbers as they are; NaN and what a row lacks as a dash.
    """
    columns = list(dict.fromkeys(column for values in rows.values() for column in values))
    width = max(len(name) for name in rows)
    widths = [max(10, len(column) + 2) for column in columns]

    def line(name: str, cells) -> str:
        padded = (f"{cell:>{wide}}" for cell, wide in zip(cells, widths, strict=True))
        return f"{name:<{width}}" + "".join(padded)

    def cell(value: float | int | str) -> str:
        if isinstance(value, int):
            return f"{value:,}"
        return "-" if np.isnan(value) else f"{100 * value:.2f}"

    lines = [line("", columns)]
    for name, values in rows.items():
        lines.append(line(name, [cell(values.get(column, np.nan)) for column in columns]))
    return "\n".join(lines)

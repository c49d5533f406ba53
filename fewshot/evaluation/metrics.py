"""Accuracies as fractions in [0, 1]."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student
from sklearn.metrics import accuracy_score


def accuracy(chosen: np.ndarray, labels: np.ndarray) -> float:
    """The share of chosen[N] that equals labels[N]."""
    return float(accuracy_score(labels, chosen))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """(mean, half of the 95 % interval by Student's t) over repeats; NaN for a single one."""
    array = np.asarray(values, float)
    if len(array) < 2:
        return float(array.mean()), float("nan")
    error = array.std(ddof=1) / np.sqrt(len(array))
    return float(array.mean()), float(student.ppf(0.975, len(array) - 1) * error)


def harmonic_mean(base: float, new: float) -> float:
    """2 base new / (base + new), the usual figure of base-to-new generalisation; 0 of zeros."""
    return 2 * base * new / (base + new) if base + new else 0.0


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

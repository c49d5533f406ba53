"""Rows of features on the host: their length, their order, and what is none. E embedding."""

import numpy as np


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """rows[...,E] divided by their Euclidean norm; a zero row stays zero."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


def canonical_order(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Row numbers sorted by label, then by the bytes of the row: the same for any order given."""
    return np.array(sorted(range(len(labels)), key=lambda i: (labels[i], features[i].tobytes())))


def checked_rows(name: str, values: np.ndarray, width: int | None = None) -> np.ndarray:
    """values[N,E] in float32, or ValueError: wrong shape, not finite, a row of zeros, no rows."""
    rows = np.asarray(values, np.float32)
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(f"{name} has shape {rows.shape}; it must be [rows, width], neither 0")
    if width is not None and rows.shape[1] != width:
        raise ValueError(f"{name} is {rows.shape[1]} wide; it must be {width} wide")
    if not np.isfinite(rows).all():
        raise ValueError(
            f"{name} row {int(np.argmin(np.isfinite(rows).all(axis=1)))} is not finite"
        )
    if not rows.any(axis=1).all():
        raise ValueError(f"{name} row {int(np.argmin(rows.any(axis=1)))} is all zeros")
    return rows

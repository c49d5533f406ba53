"""Rows of features on the host: unit length, a canonical order, and checks.

Shapes: N rows, E embedding, C classes.
"""

import numpy as np


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Divides rows[...,E] by their Euclidean norm; a row of zeros stays zero."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


def canonical_order(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the row numbers [N] sorted by label, then by the bytes of the row.

    Rows in this order are the same whatever order they came in.
    """
    return np.array(sorted(range(len(labels)), key=lambda i: (labels[i], features[i].tobytes())))


def check_rows(name: str, values: np.ndarray, width: int | None = None) -> np.ndarray:
    """Returns values[N,E] in float32.

    Raises ValueError if there are no rows, the shape is another one, or a row is not finite or
    all zeros. `name` is what the message calls the array.
    """
    rows = np.asarray(values, np.float32)
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(f"{name} has shape {rows.shape}; it must be [rows, width], neither 0")
    if width is not None and rows.shape[1] != width:
        raise ValueError(f"{name} is {rows.shape[1]} wide; it must be {width} wide")
    is_finite, is_nonzero = np.isfinite(rows).all(axis=1), rows.any(axis=1)
    if not is_finite.all():
        raise ValueError(f"{name} row {int(np.argmin(is_finite))} is not finite")
    if not is_nonzero.all():
        raise ValueError(f"{name} row {int(np.argmin(is_nonzero))} is all zeros")
    return rows


def check_labels(labels: np.ndarray, rows: int, num_classes: int) -> np.ndarray:
    """Returns labels[N] in int64.

    Raises ValueError unless they are N = `rows` whole numbers in 0..C-1.
    """
    labels = np.asarray(labels)
    if labels.shape != (rows,):
        raise ValueError(f"labels has shape {labels.shape}; it must be ({rows},), one per row")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels are {labels.dtype}; they must be whole numbers")
    for label in (labels.min(), labels.max()):
        if not 0 <= label < num_classes:
            raise ValueError(f"label {label} is outside 0..{num_classes - 1}, the classes")
    return labels.astype(np.int64)


def check_shots(
    features: np.ndarray, labels: np.ndarray, text_features: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns features[N,E] and text_features[C,E] in float32, labels[N] in 0..C-1 in int64.

    Raises ValueError for arrays that do not fit together, and for a single class.
    """
    text = check_rows("text_features", text_features)
    if len(text) < 2:
        raise ValueError("text_features has 1 row; a classifier needs at least 2 classes")
    rows = check_rows("features", features, text.shape[1])
    return rows, check_labels(labels, len(rows), len(text)), text

import numpy as np
import pytest

from fewshot.evaluation.metrics import accuracy, harmonic_mean, table


def test_accuracy_and_harmonic_mean():
    assert accuracy(np.array([0, 2, 1, 1]), np.array([0, 1, 1, 1])) == 0.75
    assert harmonic_mean(0.5, 1.0) == pytest.approx(2 / 3)
    assert harmonic_mean(0.0, 0.0) == harmonic_mean(0.0, 1.0) == 0


def test_table():
    rows = {
        "zero-shot": {"base": 0.5, "new": float("nan"), "Stanford-Cars": 1 / 3},
        "head": {"base": 0.75, "new": 1.0, "Stanford-Cars": 0.0, "trained": 12345, "seconds": 0},
    }
    assert table(rows).splitlines() == [
        "               base       new  Stanford-Cars   trained   seconds",
        "zero-shot     50.00         -          33.33         -         -",
        "head          75.00    100.00           0.00    12,345         0",
    ]

import math

import numpy as np

from fewshot.metrics import accuracy_within, table

SCORES = np.array([[3.0, 1, 9], [1, 3, 9], [5, 1, 0], [0, 0, 7]])
LABELS = np.array([0, 1, 1, 2])


def test_only_the_named_classes_count_and_compete():
    assert accuracy_within(SCORES, LABELS, [0, 1]) == 2 / 3  # class 2 takes no image from them
    assert accuracy_within(SCORES, LABELS, [2]) == 1.0
    assert accuracy_within(SCORES, LABELS, range(3)) == 0.25


def test_more_classes_may_compete_than_count():
    assert accuracy_within(SCORES, LABELS, [1], among=[0, 1]) == 0.5  # class 0 takes one of them
    assert accuracy_within(SCORES, LABELS, [1]) == 1.0
    assert accuracy_within(SCORES, LABELS, [0], among=[2, 1, 0]) == 0.0


def test_no_such_images():
    assert math.isnan(accuracy_within(SCORES, LABELS[:3], [2]))


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

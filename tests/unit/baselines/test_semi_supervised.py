"""Pseudo-labels: sure guesses join the labelled images, and hidden labels are never read."""

import numpy as np

from baselines.datasets.image_sets import ImageSet
from baselines.semi_supervised import add_pseudo_labels


def test_guesses_never_see_the_hidden_labels():
    keys = tuple(f"train/{row}" for row in range(9))
    pixels, names = np.zeros((9, 2, 2, 3), np.uint8), ("red", "green", "blue")
    whole = ImageSet(pixels, np.arange(9) % 3, names, keys)
    known, others = np.array([0, 1, 2]), np.arange(3, 9)
    logits = np.array([[9, 0, 0], [0, 9, 0], [0, 0, 9], [1, 0, 0], [9, 0, 0], [0, 0, 0.0]])
    labelled = add_pseudo_labels(whole, known, others, logits, 0.9)
    assert labelled.keys == tuple(whole.keys[row] for row in (0, 1, 2, 3, 4, 5, 7))
    assert labelled.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    hidden = ImageSet(whole.images, [0, 1, 2, *[1] * 6], whole.class_names, whole.keys)
    assert (
        add_pseudo_labels(hidden, known, others, logits, 0.9).labels.tolist()
        == labelled.labels.tolist()
    )

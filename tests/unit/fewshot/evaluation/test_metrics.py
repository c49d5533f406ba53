"""Accuracies and intervals that were worked by hand."""

import math

import numpy as np
import pytest

from fewshot.evaluation.metrics import accuracy, accuracy_of_classes, harmonic_mean, top5_accuracy


def test_accuracy_and_harmonic_mean():
    assert accuracy(np.array([0, 2, 1, 1]), np.array([0, 1, 1, 1])) == 0.75
    assert harmonic_mean(0.5, 1.0) == pytest.approx(2 / 3)
    assert harmonic_mean(0.0, 0.0) == harmonic_mean(0.0, 1.0) == 0


def test_accuracy_of_classes_counts_their_images_only():
    predicted, labels = np.array([0, 1, 1, 2]), np.array([0, 1, 0, 1])
    assert accuracy_of_classes(predicted, labels, [0]) == 1 / 2
    assert accuracy_of_classes(predicted, labels, [0, 1]) == 2 / 4
    assert math.isnan(accuracy_of_classes(predicted, labels, [2]))


def test_top5_counts_all_five():
    ids = np.array([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [5, 6, 7, 8, 9]])
    assert top5_accuracy(ids, np.array([4, 4, 4])) == pytest.approx(2 / 3)

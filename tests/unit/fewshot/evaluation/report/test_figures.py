"""The report's numbers on examples that were worked by hand."""

import numpy as np
import pytest

from fewshot.evaluation.report import figures


def test_reliability_by_hand():
    # bins (0, .5] and (.5, 1]: means .25 and .8, accuracies .5 and .5, gaps .25 and .3
    found = figures.reliability(np.array([0, 0.5, 0.6, 1]), np.array([0, 1, 1, 0]), bins=2)
    assert found["count"].tolist() == [2, 2]
    assert found["confidence"] == pytest.approx([0.25, 0.8])
    assert found["accuracy"] == pytest.approx([0.5, 0.5])
    assert found["ece"] == pytest.approx((0.25 + 0.3) / 2)


def test_reliability_leaves_empty_bins_open_and_weighs_by_images():
    found = figures.reliability(np.array([0.9, 0.9, 0.9, 0.1]), np.array([1, 1, 0, 0]))
    assert len(found["count"]) == 15 and found["count"].sum() == 4
    assert np.isnan(found["accuracy"]).sum() == 13
    assert found["ece"] == pytest.approx(3 / 4 * (0.9 - 2 / 3) + 1 / 4 * 0.1)
    assert figures.reliability(np.ones(3), np.ones(3))["ece"] == 0


def test_domain_confusion_has_true_domains_as_rows():
    domain_of = np.array([0, 0, 1, 2])
    truth, guess = np.array([0, 1, 2, 2]), np.array([1, 3, 0, 2])
    counts = figures.domain_confusion(domain_of, truth, guess, 3)
    assert counts.tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 0]]


def test_worst_pairs_are_sorted_by_images_then_ids():
    truth = np.array([5, 5, 5, 1, 1, 0, 2, 2])
    guess = np.array([5, 3, 3, 2, 2, 9, 2, 2])
    assert figures.worst_pairs(truth, guess) == [(1, 2, 2), (5, 3, 2), (0, 9, 1)]
    assert figures.worst_pairs(truth, guess, most=1) == [(1, 2, 2)]
    assert figures.worst_pairs(truth, truth) == []


def test_least_certain_skips_the_unread():
    confidence, known = np.array([0.5, 0.1, 0.2, 0.2]), np.array([1, 0, 1, 1], bool)
    assert figures.least_certain(confidence, known, 3) == [2, 3, 0]
    assert figures.least_certain(confidence, known, 2) == [2, 3]


def test_extreme_views_take_an_image_once():
    weights = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.9, 0.05, 0.05], [1, 0, 0]])
    known = np.array([1, 1, 1, 0], bool)
    largest, smallest = figures.extreme_views(weights, known, 2)
    assert largest == [(2, 0), (0, 0)]
    assert smallest == [(2, 1), (0, 1)]

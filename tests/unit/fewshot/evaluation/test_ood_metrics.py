"""The metrics of a score that separates base images from new ones, worked by hand."""

import numpy as np
import pytest

from fewshot.evaluation.ood_metrics import separation


def test_evaluation_by_hand():
    score = np.array([3.0, 2.0, 0.0, 1.0, -1.0])
    is_base = np.array([True, True, True, False, False])
    told = separation(score, is_base, 1.0)
    assert told["auroc"] == pytest.approx(5 / 6)
    assert told["fpr95"] == 0.5  # all base images are at 0 or more, and so is one of two new
    assert told["base_recall"] == pytest.approx(2 / 3) and told["new_recall"] == 0.5
    assert told["confusion"] == [[2, 1], [1, 1]]
    better = separation(np.array([np.inf, np.inf, 2.0, 1.0, -np.inf]), is_base, 1.5)
    assert (better["auroc"], better["fpr95"], better["new_recall"]) == (1, 0, 1)


def test_evaluation_of_one_kind_alone():
    told = separation(np.array([1.0, -1.0]), np.array([True, True]), 0.0)
    assert told["base_recall"] == 0.5 and told["confusion"] == [[1, 1], [0, 0]]
    assert np.isnan([told["auroc"], told["fpr95"], told["new_recall"]]).all()


def test_ties_count_half_and_fpr95_may_refuse_one_base_image_of_twenty():
    is_base = np.arange(40) < 20
    tied = separation(np.ones(40), is_base, 0.0)
    assert (tied["auroc"], tied["fpr95"]) == (0.5, 1)
    score = np.r_[-9.0, np.full(19, 2.0), np.full(20, 1.0)]
    assert separation(score, is_base, 0.0)["fpr95"] == 0
    score[1] = -9.0  # two of twenty are more than 5 %
    assert separation(score, is_base, 0.0)["fpr95"] == 1


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="NaN for some images"):
        separation(np.array([np.nan, 1.0]), np.array([True, False]), 0.0)
    with pytest.raises(ValueError, match="must both be"):
        separation(np.ones(2), np.ones(3, bool), 0.0)

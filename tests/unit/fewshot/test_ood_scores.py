"""Scores of base against new: by hand, at their limits, and what they must not depend on."""

import numpy as np
import pytest
from scipy.special import expit, logit, softmax

from fewshot.evaluation.ood_scores import (
    evaluate,
    known_names,
    mcm,
    neglabel,
    threshold_keeping,
    transductive_rank_fusion,
)

CLOSE = {"rtol": 0, "atol": 1e-9}  # a few float64 operations on values below 10
LOGITS = np.log([[1.0, 2.0, 5.0], [4.0, 4.0, 4.0]])
OTHERS = np.log([[2.0, 6.0, 1.0, 1.0], [1.0, 1.0, 1.0, 9.0]])


def test_by_hand():
    np.testing.assert_allclose(mcm(LOGITS), logit([5 / 8, 1 / 3]), **CLOSE)
    np.testing.assert_allclose(known_names(LOGITS, OTHERS), logit([8 / 18, 12 / 24]), **CLOSE)
    groups = np.array([[0, 1], [2, 3]])
    expected = [(8 / 16 + 8 / 10) / 2, (12 / 14 + 12 / 22) / 2]
    np.testing.assert_allclose(neglabel(LOGITS, OTHERS, groups), logit(expected), **CLOSE)


def test_rank_fusion_by_hand():
    fused = transductive_rank_fusion(LOGITS, OTHERS)
    p = softmax(np.hstack([LOGITS, OTHERS]), axis=1)
    share = p[:, :3].sum(axis=1)
    h_s = -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
    h_m = -(p * np.log(p)).sum(axis=1) / np.log(7)
    ranks_m, ranks_s = np.array([1.0, 0.5]), np.array([0.5, 1.0])  # .28 > .17, .44 < .5
    np.testing.assert_allclose(fused, (h_m * ranks_s + h_s * ranks_m) / (h_s + h_m), **CLOSE)
    alone = transductive_rank_fusion(LOGITS[:1], OTHERS[:1])
    assert alone[0] != fused[0]  # it is not inductive, and says so in its name
    sure = transductive_rank_fusion([[500.0, 0.0], [0.0, 0.0]], [[0.0], [500.0]])
    assert sure[0] > sure[1] and np.isfinite(sure).all()


def test_without_negatives_every_image_is_base():
    nothing = np.zeros((2, 0))
    assert (expit(neglabel(LOGITS, nothing, np.zeros((1, 0)))) == 1).all()
    assert (expit(known_names(LOGITS, nothing)) == 1).all()
    assert (mcm(LOGITS[:, :1]) == np.inf).all()


def test_negatives_that_copy_the_names_are_even():
    rng = np.random.default_rng(0)
    logits = 30 * rng.standard_normal((50, 8))
    order = rng.permutation(8)
    copies = neglabel(logits, logits, order[None])
    np.testing.assert_array_equal(neglabel(logits, logits, np.arange(8)[None]), 0)
    np.testing.assert_allclose(copies, 0, **CLOSE)  # summed in another order
    np.testing.assert_allclose(known_names(logits, logits[:, order]), 0, **CLOSE)


def test_nothing_saturates():
    steps = np.arange(100, 1000, 50.0)
    base, others = np.stack([steps, steps / 2], axis=1), np.zeros((len(steps), 4))
    groups = np.array([[0, 1], [2, 3]])
    for score in (mcm(base), known_names(base, others), neglabel(base, others, groups)):
        assert np.isfinite(score).all() and (np.diff(score) > 0).all()
    for score in (known_names(-base, others), neglabel(-base, others, groups)):
        assert np.isfinite(score).all() and (np.diff(score) < 0).all()


def test_order_of_names_and_neighbours_change_nothing():
    rng = np.random.default_rng(1)
    base, others = rng.standard_normal((2, 9, 6))
    groups = np.arange(6).reshape(2, 3)
    order = rng.permutation(6)
    moved = np.argsort(order)[groups]  # the same words in the same groups
    shuffled = rng.permutation(6)
    for score, again in (
        (mcm(base), mcm(base[:, shuffled])),
        (known_names(base, others), known_names(base[:, shuffled], others[:, order])),
        (neglabel(base, others, groups), neglabel(base[:, shuffled], others[:, order], moved)),
    ):
        np.testing.assert_allclose(score, again, **CLOSE)
    for row in range(9):
        one = slice(row, row + 1)
        np.testing.assert_array_equal(
            known_names(base, others)[one], known_names(base[one], others[one])
        )
        np.testing.assert_array_equal(
            neglabel(base, others, groups)[one], neglabel(base[one], others[one], groups)
        )


def test_threshold_keeps_the_share():
    scores = np.random.default_rng(2).standard_normal(77)
    for kept in (0.5, 0.9, 0.95, 0.99):
        threshold = threshold_keeping(scores, kept)
        assert threshold in scores
        assert (scores >= threshold).mean() >= kept > (scores > threshold).mean()


def test_evaluation_by_hand():
    score = np.array([3.0, 2.0, 0.0, 1.0, -1.0])
    is_base = np.array([True, True, True, False, False])
    told = evaluate(score, is_base, 1.0)
    assert told["auroc"] == pytest.approx(5 / 6)
    assert told["fpr95"] == 0.5  # all base images are at 0 or more, and so is one of two new
    assert told["base_kept"] == pytest.approx(2 / 3) and told["new_found"] == 0.5
    assert told["confusion"] == [[2, 1], [1, 1]]
    better = evaluate(np.array([np.inf, np.inf, 2.0, 1.0, -np.inf]), is_base, 1.5)
    assert (better["auroc"], better["fpr95"], better["new_found"]) == (1, 0, 1)


def test_evaluation_of_one_kind_alone():
    told = evaluate(np.array([1.0, -1.0]), np.array([True, True]), 0.0)
    assert told["base_kept"] == 0.5 and told["confusion"] == [[1, 1], [0, 0]]
    assert np.isnan([told["auroc"], told["fpr95"], told["new_found"]]).all()


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="one row an image"):
        known_names(LOGITS, OTHERS[:1])
    with pytest.raises(ValueError, match="one row an image"):
        mcm(LOGITS[0])
    with pytest.raises(ValueError, match="NaN"):
        mcm(LOGITS * np.nan)
    with pytest.raises(ValueError, match="NaN for some images"):
        evaluate(np.array([np.nan, 1.0]), np.array([True, False]), 0.0)
    with pytest.raises(ValueError, match="fit"):
        evaluate(np.ones(2), np.ones(3, bool), 0.0)


def test_ties_count_half_and_fpr95_may_refuse_one_base_image_of_twenty():
    is_base = np.arange(40) < 20
    tied = evaluate(np.ones(40), is_base, 0.0)
    assert (tied["auroc"], tied["fpr95"]) == (0.5, 1)
    score = np.r_[-9.0, np.full(19, 2.0), np.full(20, 1.0)]
    assert evaluate(score, is_base, 0.0)["fpr95"] == 0
    score[1] = -9.0  # two of twenty are more than 5 %
    assert evaluate(score, is_base, 0.0)["fpr95"] == 1

"""Scores of base against new classes: by hand, at their limits, independent of neighbours."""

import numpy as np
import pytest
from scipy.special import expit, logit

from models.ood.gp_filter import threshold_at_tpr
from models.ood.scores import deal_groups, known_names, mcm, neglabel

CLOSE = {"rtol": 0, "atol": 1e-9}  # a few float64 operations on values below 10
LOGITS = np.log([[1.0, 2.0, 5.0], [4.0, 4.0, 4.0]])
OTHERS = np.log([[2.0, 6.0, 1.0, 1.0], [1.0, 1.0, 1.0, 9.0]])


def test_by_hand():
    np.testing.assert_allclose(mcm(LOGITS), logit([5 / 8, 1 / 3]), **CLOSE)
    np.testing.assert_allclose(known_names(LOGITS, OTHERS), logit([8 / 18, 12 / 24]), **CLOSE)
    groups = np.array([[0, 1], [2, 3]])
    expected = [(8 / 16 + 8 / 10) / 2, (12 / 14 + 12 / 22) / 2]
    np.testing.assert_allclose(neglabel(LOGITS, OTHERS, groups), logit(expected), **CLOSE)


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
    for target_tpr in (0.5, 0.9, 0.95, 0.99):
        threshold = threshold_at_tpr(scores, target_tpr)
        assert threshold in scores
        assert (scores >= threshold).mean() >= target_tpr > (scores > threshold).mean()


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="one row per image"):
        known_names(LOGITS, OTHERS[:1])
    with pytest.raises(ValueError, match="one row per image"):
        mcm(LOGITS[0])
    with pytest.raises(ValueError, match="NaN"):
        mcm(LOGITS * np.nan)


def test_groups_are_equal_disjoint_and_the_same_each_time():
    dealt = deal_groups(1203)
    assert dealt.shape == (100, 12) and len(np.unique(dealt)) == 1200 and dealt.max() < 1203
    np.testing.assert_array_equal(dealt, deal_groups(1203))
    assert (dealt != deal_groups(1203, seed=1)).any()
    assert deal_groups(499).shape == (1, 499) and deal_groups(0).size == 0

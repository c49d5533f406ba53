import numpy as np
import pytest

from fewshot.classifier import class_scores
from fewshot.metrics import accuracy_within
from models.head import LPPlusPlus
from models.lpplusplus_geometry import unit_rows

RANDOM = np.random.default_rng(0)
TEXT = unit_rows(RANDOM.normal(size=(6, 16))).astype(np.float32)
BASE = [0, 2, 3, 5]
LABELS = RANDOM.integers(0, 6, 80)
FEATURES = (3 * TEXT[LABELS] + RANDOM.normal(size=(80, 16))).astype(np.float32)


def scores_of(n_iter):
    rows = np.isin(LABELS, BASE)
    labels = np.searchsorted(BASE, LABELS[rows])
    head = LPPlusPlus(n_iter=n_iter).fit(FEATURES[rows], labels, TEXT[BASE])
    return class_scores(FEATURES, TEXT, head, BASE)


def test_an_untrained_head_is_zero_shot():
    scores = scores_of(0)
    # float32 sums of numbers up to 100, taken apart and put together again
    assert scores["head"] == pytest.approx(scores["zero-shot"], abs=1e-3)


def test_a_trained_head_ranks_base_classes_and_leaves_the_rest():
    scores = scores_of(50)
    zero_shot, head = scores["zero-shot"], scores["head"]
    assert accuracy_within(head, LABELS, BASE) > accuracy_within(zero_shot, LABELS, BASE)
    assert head[:, [1, 4]].tobytes() == zero_shot[:, [1, 4]].tobytes()
    base_mass = [np.exp(s[:, BASE].astype(np.float64)).sum(axis=1) for s in (head, zero_shot)]
    assert base_mass[0] == pytest.approx(base_mass[1], abs=1e-5)  # float32 logarithms


def test_each_image_is_scored_by_itself():
    head = LPPlusPlus(n_iter=5).fit(FEATURES[:40], LABELS[:40], TEXT)
    together = class_scores(FEATURES, TEXT, head, range(6))["head"]
    # a product of one row is summed in another order than that of 80
    alone = class_scores(FEATURES[7:8], TEXT, head, range(6))["head"]
    assert alone == pytest.approx(together[7:8], abs=1e-4)


def test_an_unreadable_image_scores_equally():
    head = LPPlusPlus(n_iter=5).fit(FEATURES[:40], LABELS[:40], TEXT)
    scores = class_scores(np.zeros((2, 16), np.float32), TEXT, head, range(6))["head"]
    assert len(np.unique(scores)) == 1

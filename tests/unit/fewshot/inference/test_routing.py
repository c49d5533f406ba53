"""Routing of base and new classes, worked by hand."""

import numpy as np
import pytest

from fewshot.inference.routing import routed_scores


def test_routing_by_hand():
    base, new = np.log([[0.75, 0.25]] * 2), np.log([[0.5, 0.3, 0.2]] * 2)
    odds = np.log([3.0, 1 / 4])  # base with probability 3/4, 1/5
    soft = np.exp(routed_scores(base, new, odds, 0.0, "soft"))
    assert soft[0] == pytest.approx([9 / 16, 3 / 16, 1 / 8, 0.075, 0.05])
    assert soft[1] == pytest.approx([0.15, 0.05, 0.4, 0.24, 0.16])
    hard = routed_scores(base, new, odds, 0.0, "hard")
    assert np.argsort(-hard).tolist() == [[0, 1, 2, 3, 4], [2, 3, 4, 0, 1]]
    assert np.exp(hard)[0] == pytest.approx([0.75, 0.25, 0, 0, 0])
    moved = routed_scores(base, new, odds, odds[1], "hard")  # a score at the threshold is base
    assert np.argsort(-moved).tolist() == [[0, 1, 2, 3, 4]] * 2
    side_by_side = np.exp(routed_scores(base, new, odds, 0.0, "none"))
    assert side_by_side[0] == pytest.approx([0.375, 0.125, 0.25, 0.15, 0.1])

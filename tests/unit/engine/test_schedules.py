import math

import pytest

from engine.schedules import cosine_schedule
from tests.helpers.golden import load_golden


def test_cosine_hand_worked():
    rate = cosine_schedule(1.0, 4)
    expected = [1.0, (1 + math.cos(math.pi / 4)) / 2, 0.5, (1 + math.cos(3 * math.pi / 4)) / 2, 0.0]
    assert [rate(step) for step in range(5)] == pytest.approx(expected, abs=1e-15)
    assert rate(9) == 0.0  # past its end it stays there


def test_warmup_starts_above_zero_and_meets_the_cosine():
    rate = cosine_schedule(0.8, 12, warmup=4, final=0.1)
    assert [rate(step) for step in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rate(4) == pytest.approx(0.8) and rate(12) == pytest.approx(0.1)


def test_warmup_must_fit():
    with pytest.raises(ValueError, match="5 steps does not fit into 5"):
        cosine_schedule(1.0, 5, warmup=5)


def test_cosine_to_a_floor_is_torchs():
    rate = cosine_schedule(0.6, 40, final=1e-3)  # SimCLR's
    rates = [rate(step) for step in range(41)]
    assert rates == pytest.approx(
        load_golden("baselines/training")["cosine"], rel=1e-12
    )  # torch's is recursive


def test_warmed_up_cosine_is_moco_v3s():
    rate, moco = cosine_schedule(0.6, 40, warmup=8), load_golden("baselines/training")["moco"]
    assert [rate(step) for step in range(8, 41)] == pytest.approx(moco[8:], abs=1e-15)
    # in the warm-up ours is a step ahead: MoCo's first rate is 0
    assert [rate(step) for step in range(8)] == pytest.approx(moco[1:9], abs=1e-15)

"""Soft targets, mixup and CutMix by hand and by their distributions."""

import numpy as np
import pytest

from baselines.transforms.mixing import cutmix, mixup
from engine.losses import soft_targets

IMAGES = np.random.default_rng(0).random((6, 3, 16, 12), np.float32) + np.arange(
    6, dtype=np.float32
).reshape(6, 1, 1, 1)
TARGETS = soft_targets(np.arange(6), 6)


def test_soft_targets_share_the_smoothing():
    targets = soft_targets(np.array([2, 0]), 4, 0.2)
    np.testing.assert_allclose(
        targets, [[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]], atol=1e-7
    )
    np.testing.assert_array_equal(TARGETS, np.eye(6))
    with pytest.raises(IndexError, match="labels run from 0 to 4, classes are 4"):
        soft_targets(np.array([0, 4]), 4)
    with pytest.raises(IndexError, match="labels run from -1"):
        soft_targets(np.array([-1, 2]), 4)
    with pytest.raises(ValueError, match="smoothing is 1"):
        soft_targets(np.array([0]), 4, 1.0)


def test_mixup_blends_images_as_it_blends_targets():
    seen = set()
    for seed in range(20):
        images, targets = mixup(IMAGES, TARGETS, np.random.default_rng(seed), alpha=0.8)
        assert images.dtype == targets.dtype == np.float32
        blended = np.einsum("bn,nchw->bchw", targets, IMAGES)
        np.testing.assert_allclose(images, blended, atol=1e-5)  # float32 up to 7
        np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
        seen.add(round(float(targets[targets > 0].min()), 3))
    assert len(seen) > 10


def test_mixup_draws_from_beta():
    weights = []
    for seed in range(500):
        rng = np.random.default_rng(seed)
        _, targets = mixup(IMAGES[:2], TARGETS[:2], rng, alpha=2.0)
        if targets[0, 0] != 1:  # both rows may be drawn as their own partners
            weights.append(targets[0, 0])
    assert 200 < len(weights) < 300
    assert abs(np.mean(weights) - 0.5) < 0.06 and abs(np.var(weights) - 0.05) < 0.015  # Beta(2, 2)


def test_cutmix_exchanges_one_rectangle_and_counts_its_pixels():
    shares = []
    for seed in range(200):
        images, targets = cutmix(IMAGES, TARGETS, np.random.default_rng(seed))
        other = (images != IMAGES).any(1)
        for row in range(6):
            partners = np.flatnonzero(targets[row])
            mixed = [p for p in partners if p != row]
            if not mixed:
                np.testing.assert_array_equal(images[row], IMAGES[row])
                continue
            rows, columns = np.nonzero(other[row])
            area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            assert area == other[row].sum()
            inside = images[row][:, other[row]]
            np.testing.assert_array_equal(inside, IMAGES[mixed[0]][:, other[row]])
            assert targets[row, mixed[0]] == pytest.approx(area / 192, abs=1e-6)  # float32
        np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
        shares.append(1 - targets.max())
    assert max(shares) > 0.4
    assert IMAGES.min() >= 0  # the input is left as it was


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_no_mixing_at_all_must_be_said_otherwise(mix):
    with pytest.raises(ValueError, match="alpha is 0"):
        mix(IMAGES, TARGETS, np.random.default_rng(0), alpha=0)

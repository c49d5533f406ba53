"""EfficientNets against torchvision's, in evaluation and in training; their random parts."""

import jittor as jt
import numpy as np
import pytest

from models.backbones.efficientnet import EfficientNet, round_channels
from models.backbones.layers import DropPath
from tests.helpers.golden_networks import check_evaluation, check_training, seeded_network

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4  # of the largest: fp32 sums in another order; measured: at most 2.7e-5


def test_b0_equals_torchvision():
    module = seeded_network("efficientnet_b0", dropout=0.0, drop_path=0.0)
    check_evaluation(module, "efficientnet_b0", 64, 8, TOLERANCE)
    check_training(module, "efficientnet_b0", 64, 8, TOLERANCE)


def test_b4_equals_torchvision():
    module = seeded_network(
        "efficientnet_b4", gain=0.5
    )  # else chaotic; see the golden file's maker
    check_evaluation(module, "efficientnet_b4", 64, 2, TOLERANCE)


def test_channels_are_rounded_as_the_paper_does():
    assert [round_channels(1.4 * n) for n in (16, 24, 32, 40, 80, 112, 192, 320)] == [
        24,
        32,
        48,
        56,
        112,
        160,
        272,
        448,
    ]


def test_paths_drop_as_in_torchvision():
    """20 % at the end, growing from 0 with depth."""
    module = EfficientNet("efficientnet_b0", 10)
    paths = [part for part in module.modules() if isinstance(part, DropPath)]
    np.testing.assert_allclose([p.probability for p in paths], 0.2 * np.arange(16) / 16)
    assert (
        module.classifier[0].p == 0.2 and EfficientNet("efficientnet_b4", 1).classifier[0].p == 0.4
    )


def test_drop_path_zeroes_whole_images_in_training_only():
    jt.set_global_seed(3)
    path, x = DropPath(0.25), jt.ones((4000, 2, 2))
    values = path(x).numpy()
    assert (values == values[:, :1, :1]).all()
    is_kept = values[:, 0, 0] > 0
    np.testing.assert_allclose(values[is_kept], 1 / 0.75, rtol=1e-6)
    # A binomial share of 4,000 deviates by .0068; five times that.
    assert abs(is_kept.mean() - 0.75) < 0.035
    path.eval()
    assert (path(x).numpy() == 1).all()
    path.train()
    path.frozen = True
    assert (path(x).numpy() == 1).all()
    with pytest.raises(ValueError, match=r"drop_path 1.0 is not in \[0, 1\)"):
        DropPath(1.0)

"""ResNets against torchvision's, in evaluation and in training."""

import jittor as jt
import numpy as np
import pytest

from models.backbones.layers import BatchNorm
from models.backbones.resnet import ResNet
from tests.helpers.golden_networks import check_evaluation, check_training, seeded_network

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4  # of the largest: fp32 sums in another order; measured: at most 8.3e-5
# A value within rounding of a ReLU's kink takes the other side, and all gradients before it change:
# torch's own in fp32 are up to 7e-3 away from those in float64. Norms, measured: at most 1.1e-3.
KINKED = 3e-3


@pytest.mark.parametrize(
    ("case", "name", "size", "stem"),
    [
        ("resnet18", "resnet18", 64, "imagenet"),
        ("resnet18_small", "resnet18", 16, "small"),
        ("resnet50", "resnet50", 64, "imagenet"),
    ],
)
def test_equals_torchvision(case, name, size, stem):
    module = seeded_network(name, stem=stem)
    check_evaluation(module, case, size, 8, TOLERANCE)
    check_training(module, case, size, 8, TOLERANCE, KINKED)


def test_small_stem_keeps_the_cells():
    module = ResNet("resnet18", 0, "small")
    module.eval()
    x = module.maxpool(module.relu(module.bn1(module.conv1(jt.randn(1, 3, 32, 32)))))
    assert tuple(x.shape) == (1, 64, 32, 32)
    assert tuple(module(jt.randn(2, 3, 32, 32)).shape) == (2, 512)  # no classifier: features
    with pytest.raises(ValueError, match="stem 'tiny' is none of imagenet, small"):
        ResNet("resnet18", 10, "tiny")


def test_batch_norm_keeps_the_unbiased_variance():
    norm, x = BatchNorm(3), np.random.default_rng(0).normal(2, 3, (2, 3, 2, 1)).astype(np.float32)
    norm(jt.array(x))
    expected = 0.9 + 0.1 * x.transpose(1, 0, 2, 3).reshape(3, -1).var(axis=1, ddof=1)
    np.testing.assert_allclose(norm.running_var.numpy(), expected, rtol=1e-5)  # fp32 cancellation
    with pytest.raises(ValueError, match="one value per channel"):
        norm(jt.ones((1, 3, 1, 1)))

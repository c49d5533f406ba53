"""ViT and DeiT against timm's, in evaluation and in training."""

import jittor as jt
import numpy as np
import pytest

from models.backbones import networks
from models.backbones.layers import DropPath
from tests.helpers.golden_networks import check_evaluation, check_training, seeded_network

TOLERANCE = 1e-4  # of the largest: fp32 sums in another order; measured: at most 1.6e-6


@pytest.mark.parametrize("name", ["vit_tiny", "deit_tiny"])
def test_equals_timm(name):
    module = seeded_network(name, image_size=32, patch_size=8)
    check_evaluation(module, name, 32, 4, TOLERANCE)
    check_training(module, name, 32, 4, TOLERANCE)


def test_patches_are_the_convolution():
    module = networks.build_network("vit_tiny", 0, image_size=16, patch_size=4, depth=1, width=12)
    images = jt.randn(2, 3, 16, 16)
    expected = module.patch_embed.proj(images).reshape(2, 12, 16).permute(0, 2, 1)
    np.testing.assert_allclose(
        module.patch_embed(images).numpy(), expected.numpy(), atol=1e-5
    )  # sums of 48 numbers near 1, in another order


def test_both_heads_in_training_and_their_mean_in_evaluation():
    jt.set_global_seed(0)
    sizes = {"image_size": 8, "patch_size": 4, "depth": 2, "width": 12}
    module = networks.build_network("deit_small", 5, **sizes)
    images = jt.randn(3, 3, 8, 8)
    module.train()
    logits, distilled = (value.numpy() for value in module(images))
    first, second = module.both_features(images)
    np.testing.assert_array_equal(module.classify(first, second)[1].numpy(), distilled)
    assert tuple(first.shape) == (3, 12) and np.abs(logits - distilled).max() > 1e-4
    module.eval()
    np.testing.assert_allclose(module(images).numpy(), (logits + distilled) / 2, atol=1e-6)
    mean = (first.numpy() + second.numpy()) / 2
    np.testing.assert_allclose(module.features(images).numpy(), mean, atol=1e-6)
    assert tuple(networks.build_network("deit_small", 0, **sizes)(images).shape) == (3, 12)


def test_drop_path_grows_with_depth():
    module = networks.build_network(
        "vit_tiny", 2, image_size=8, patch_size=4, depth=3, drop_path=0.2
    )
    rates = [part.probability for part in module.modules() if isinstance(part, DropPath)]
    np.testing.assert_allclose(rates, [0, 0.1, 0.2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 32, "patch_size": 5}, "patch_size 5 does not divide image_size 32"),
        ({"image_size": 32, "heads": 5}, "heads 5 does not divide width 192"),
        ({"depth": 0}, "depth 0 is less than 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        networks.build_network("vit_tiny", 10, **options)


def test_images_of_another_size_are_refused():
    module = networks.build_network("vit_tiny", 2, image_size=8, patch_size=4, depth=1)
    with pytest.raises(ValueError, match=r"built for \[B, 3, 8, 8\]"):
        module(jt.zeros((1, 3, 12, 12)))

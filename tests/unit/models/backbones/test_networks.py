"""`build_network`: names and initial values as in the originals, one interface, clear errors."""

import jittor as jt
import numpy as np
import pytest

from models.backbones import networks
from tests.helpers.golden import load_golden
from tests.helpers.golden_networks import names_and_shapes

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", networks.NAMES)
def test_names_and_shapes_are_the_originals(name):
    """torchvision's and timm's own list of 1,000 classes at 224 pixels."""
    module = networks.build_network(name, 1000)
    assert names_and_shapes(module) == str(load_golden("networks/names")[name])
    for head in module.head_names:
        last = getattr(module, head)
        last = last[1] if name.startswith("efficientnet") else last
        assert tuple(last.weight.shape) == (1000, module.width)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "vit_tiny", "deit_tiny"])
def test_the_seed_decides_every_byte(name):
    def values(seed):
        jt.set_global_seed(seed)
        variables = networks.build_network(name, 3, image_size=32).state_dict()
        return {part: value.numpy() for part, value in variables.items()}

    one, again, other = values(0), values(0), values(1)
    assert all((one[part] == again[part]).all() for part in one)
    assert sum((one[part] != other[part]).any() for part in one) > 20


# (network, parameter, deviation of the original's draw); others are in the network's own module
@pytest.mark.parametrize(
    ("name", "part", "deviation"),
    [
        ("resnet18", "layer3.0.conv1.weight", np.sqrt(2 / (256 * 9))),
        ("resnet18", "fc.weight", 512**-0.5 / np.sqrt(3)),
        ("efficientnet_b0", "features.5.1.block.1.0.weight", np.sqrt(2 / (672 * 25))),
        ("efficientnet_b0", "classifier.1.weight", 100**-0.5 / np.sqrt(3)),
        ("efficientnet_b0", "features.5.1.block.2.fc1.bias", 0),
        ("vit_tiny", "blocks.3.attn.qkv.weight", 0.02),
        ("vit_tiny", "blocks.3.attn.qkv.bias", 0),
        ("vit_tiny", "patch_embed.proj.weight", 768**-0.5 / np.sqrt(3)),
        ("vit_tiny", "cls_token", 1e-6),
        ("deit_tiny", "head_dist.weight", 0.02),
    ],
)
def test_first_values_are_the_originals(name, part, deviation):
    jt.set_global_seed(0)
    value = networks.build_network(name, 100).state_dict()[part].numpy()
    # A deviation estimated from n numbers is itself known to 1/sqrt(2n); four times that.
    assert value.std() == pytest.approx(deviation, rel=4 / np.sqrt(2 * value.size))
    assert abs(value.mean()) <= 4 * deviation / np.sqrt(value.size)


def test_norms_start_at_one_and_zero():
    for name in ("resnet18", "efficientnet_b0", "deit_tiny"):
        variables = networks.build_network(name, 2).state_dict()
        parts = [p for p in variables if "norm" in p or "bn" in p]
        parts = parts or [p.rsplit(".", 1)[0] + ".weight" for p in variables if "running_var" in p]
        for part in parts:
            expected = float(part.endswith((".weight", ".running_var")))
            assert (variables[part].numpy() == expected).all(), part


def test_options_are_strict():
    with pytest.raises(ValueError, match="no network is called 'resnet34'; there are resnet18"):
        networks.build_network("resnet34", 10)
    with pytest.raises(ValueError, match="vit_tiny has no stem; its options are patch_size"):
        networks.build_network("vit_tiny", 10, stem="small")
    with pytest.raises(ValueError, match="num_classes -1 is negative"):
        networks.build_network("resnet18", -1)

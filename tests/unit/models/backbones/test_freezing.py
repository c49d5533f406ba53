"""Policies: the named parts are trained, and the rest keeps its bytes in training steps."""

from functools import cache

import jittor as jt
import numpy as np
import pytest
from jittor import nn

from engine import checkpoint
from models.backbones import networks
from models.backbones.freezing import set_trainable

pytestmark = pytest.mark.slow

TINY = {"image_size": 8, "patch_size": 4, "depth": 3, "width": 12}
SIZES = {"deit_tiny": TINY, "vit_tiny": TINY, "resnet18": {"stem": "small"}}
SIDE = {"efficientnet_b0": 32}


def network(name: str) -> jt.Module:
    jt.set_global_seed(0)
    return networks.build_network(name, 3, **SIZES.get(name, {}))


def arrays(module: jt.Module) -> dict[str, np.ndarray]:
    return checkpoint.module_arrays(module)


def step(module: jt.Module, optimizer: jt.optim.Optimizer, name: str) -> None:
    side = SIDE.get(name, 8)
    outputs = module(jt.randn(4, 3, side, side))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    labels = jt.array([0, 1, 2, 1])
    optimizer.step(sum(nn.cross_entropy_loss(output, labels) for output in outputs))


def moved(module: jt.Module, name: str, groups: tuple[list, list]) -> set[str]:
    """First parts of the names of all that two steps in training change."""
    before = arrays(module)
    optimizer = jt.optim.SGD([*groups[0], *groups[1]], 0.1)
    module.train()
    for _ in range(2):
        step(module, optimizer, name)
    after = arrays(module)
    return {part for part in before if (before[part] != after[part]).any()}


def beginnings(names: set[str]) -> set[str]:
    part_counts = {name: 2 if name.startswith(("features.", "blocks.")) else 1 for name in names}
    return {".".join(name.split(".")[:parts]) for name, parts in part_counts.items()}


@pytest.mark.parametrize(
    ("name", "policy", "expected"),
    [
        ("resnet18", "head", {"fc"}),
        ("resnet18", "layer4", {"layer4", "fc"}),
        ("resnet18", "layer3+layer4", {"layer3", "layer4", "fc"}),
        ("efficientnet_b0", "last 2 blocks", {"features.7", "features.8", "classifier"}),
        ("vit_tiny", "last 1 block", {"blocks.2", "norm", "head"}),
        ("deit_tiny", "last 2 blocks", {"blocks.1", "blocks.2", "norm", "head", "head_dist"}),
        ("deit_tiny", "head", {"head", "head_dist"}),
    ],
)
def test_only_the_named_parts_move(name, policy, expected):
    """Also the statistics of batch norm, which is in training; and an `eval` in between."""
    module = network(name)
    module.eval()  # remembers who was awake, for `train` to wake up again
    groups = set_trainable(module, policy)
    module.train()
    changed = moved(module, name, groups)
    assert beginnings(changed) == expected
    if name == "resnet18" and policy == "layer4":
        assert "layer4.0.bn1.running_var" in changed and "layer4.1.bn2.running_mean" in changed
    variables = module.state_dict()
    heads = tuple(f"{head}." for head in module.head_names)
    assert {id(value) for value in groups[1]} == {
        id(value) for part, value in variables.items() if part.startswith(heads)
    }
    for part, value in variables.items():
        learns = part.split(".")[0] in expected or beginnings({part}) <= expected
        learns = learns and "running" not in part
        assert value.is_stop_grad() != learns, part


def test_all_trains_everything():
    module = network("resnet18")
    set_trainable(module, "head")
    groups = set_trainable(module, "all")  # a later policy wakes up what an earlier one froze
    assert moved(module, "resnet18", groups) == set(module.state_dict())
    assert len(groups[0]) + len(groups[1]) == sum(
        "running" not in part for part in module.state_dict()
    )


def test_frozen_parts_give_the_features_of_evaluation():
    """No path is dropped and no batch statistic is used, although the network is in training."""
    module = network("efficientnet_b0")
    set_trainable(module, "head")
    images = jt.randn(4, 3, 32, 32)
    module.train()
    trained = module.features(images).numpy()
    module.eval()
    np.testing.assert_array_equal(module.features(images).numpy(), trained)


def test_a_checkpoint_wakes_nothing(tmp_path):
    module = network("resnet18")
    groups = set_trainable(module, "layer4")
    checkpoint.restore_module(module, arrays(module), tmp_path)
    awake = {n for n, v in module.state_dict().items() if not v.is_stop_grad()}
    assert beginnings(awake) == {"layer4", "fc"} and not any("running" in n for n in awake)
    assert beginnings(moved(module, "resnet18", groups)) == {"layer4", "fc"}


@cache
def shared(name: str) -> jt.Module:
    return network(name)


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("resnet18", "last 2 blocks"),
        ("resnet18", "layer5"),
        ("resnet18", "layer3 + layer4"),
        ("vit_tiny", "layer4"),
        ("vit_tiny", "last 4 blocks"),
        ("vit_tiny", "last 0 blocks"),
        ("efficientnet_b0", "last 10 blocks"),
        ("deit_tiny", ""),
    ],
)
def test_policies_that_a_network_lacks(name, policy):
    with pytest.raises(ValueError, match="cannot be unfrozen by .*policies: all, head"):
        set_trainable(shared(name), policy)

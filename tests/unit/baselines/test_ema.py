"""The running average against FixMatch's public code, through checkpoints, and its refusals."""

import jittor as jt
import numpy as np
import pytest

from baselines.ema import Averaged
from engine import checkpoint
from engine.trainer import evaluating
from tests.helpers.golden import load_golden


def make():
    return jt.nn.Sequential(jt.nn.Linear(3, 2), jt.nn.BatchNorm1d(2))


def set_to(net, step):
    for name, value in net.state_dict().items():
        value.update(jt.array(load_golden("baselines/training")[f"states.{step}.{name}"]))


def test_three_updates_are_the_reference_codes():
    net = make()
    set_to(net, 0)
    ema = Averaged(net, decay=0.9, warmup=False)
    for step in (1, 2, 3):
        set_to(net, step)
        ema.update()
    found = {name: value.numpy() for name, value in ema.average.state_dict().items()}
    assert len(found) == 6
    for name, array in found.items():
        expected = load_golden("baselines/training")[f"ema.{name}"]
        np.testing.assert_allclose(array, expected, rtol=0, atol=5e-7)  # float32 around 1
        if "running" in name:
            np.testing.assert_array_equal(
                array, load_golden("baselines/training")[f"states.3.{name}"]
            )
    assert ema.updates.item() == 3


def test_warmup_follows_quickly_at_first():
    net = make()
    set_to(net, 0)
    ema = Averaged(net, decay=0.2)
    expected = load_golden("baselines/training")["states.0.0.weight"].astype(np.float64)
    for step, decay in ((1, 1 / 10), (2, 2 / 11), (3, 0.2)):  # 3 / 12 would be above
        set_to(net, step)
        ema.update()
        new = load_golden("baselines/training")[f"states.{step}.0.weight"]
        expected = decay * expected + (1 - decay) * new
    np.testing.assert_allclose(ema.average[0].weight.numpy(), expected, rtol=0, atol=5e-7)


def test_an_unmoved_network_leaves_the_average_as_it_is():
    net = make()
    ema = Averaged(net, decay=0.9, warmup=False)
    before = checkpoint.module_arrays(ema.average)
    for _ in range(5):
        ema.update()
    after = checkpoint.module_arrays(ema.average)
    source = checkpoint.module_arrays(net)
    for name in before:
        assert before[name].tobytes() == after[name].tobytes() == source[name].tobytes()


def test_it_is_a_network_of_its_own_that_never_trains():
    net = make()
    ema = Averaged(net, decay=0.5, warmup=False)
    optimizer = jt.optim.SGD(list(ema.parameters()), 0.1)  # of both
    before = checkpoint.module_arrays(ema.average)
    images = jt.array(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32))
    for _ in range(2):  # the network learns on after the average was asked
        ema.train()
        weight = net[0].weight.numpy()
        optimizer.step((net(images) * net(images) * jt.array([1.0, 2.0])).sum())
        assert (net[0].weight.numpy() != weight).any()
        for name, array in checkpoint.module_arrays(ema.average).items():
            assert array.tobytes() == before[name].tobytes()
        with evaluating(ema.average):
            ema.average(images).sync()


def test_the_network_takes_the_averages_weights_over():
    net = make()
    set_to(net, 0)
    ema = Averaged(net, decay=0.9)
    set_to(net, 1)
    ema.update()
    kept = checkpoint.module_arrays(ema.average)
    ema.hand_over()
    for name, array in checkpoint.module_arrays(net).items():
        assert array.tobytes() == kept[name].tobytes()
    set_to(net, 2)  # they stay two networks
    assert checkpoint.module_arrays(ema.average)["0.weight"].tobytes() == kept["0.weight"].tobytes()


def averaged(start, steps):
    net = make()
    set_to(net, start)
    ema = Averaged(net, 0.9)
    for step in steps:
        set_to(net, step)
        ema.update()
    return ema


def test_a_checkpoint_holds_it(tmp_path):
    unbroken, half, resumed = averaged(0, (1, 2, 3)), averaged(0, (1, 2)), averaged(3, ())
    checkpoint.restore_module(resumed, checkpoint.module_arrays(half), tmp_path)
    set_to(resumed.network, 3)
    resumed.update()
    expected, found = (checkpoint.module_arrays(each) for each in (unbroken, resumed))
    assert {"updates", "average.0.weight", "network.0.weight"} <= set(expected)
    for name, array in expected.items():
        assert array.tobytes() == found[name].tobytes(), name


def test_updates_are_carried_out_at_once():
    ema = Averaged(make())
    ema.update()
    jt.sync_all()
    started = jt.liveness_info()["lived_vars"]
    for _ in range(30):
        ema.update()
    assert jt.liveness_info()["lived_vars"] - started < 30  # not some dozen a step


def test_what_cannot_be_averaged_is_refused():
    with pytest.raises(ValueError, match="decay is 1"):
        Averaged(make(), decay=1.0)
    frozen = make()
    frozen.eval()
    with pytest.raises(ValueError, match="nothing in the network takes a gradient"):
        Averaged(frozen)

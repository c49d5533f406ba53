"""LARS against MoCo v3's public code, the moving average of weights against FixMatch's."""

import jittor as jt
import numpy as np
import pytest

from baselines.optim import Lars, ModelEma
from engine import checkpoint
from engine.run_log import Run
from engine.schedules import cosine_schedule
from engine.trainer import evaluation_mode, fit
from tests.helpers.golden import load_golden
from tests.helpers.points import Points

NAMES = ("weight", "bias", "zero", "kernel")


def test_six_steps_are_the_reference_codes():
    golden = load_golden("baselines/training")
    weights = {name: jt.array(golden[f"start.{name}"]) for name in NAMES}
    optimizer = Lars(list(weights.values()), lr=0.1, weight_decay=0.01)
    for step in range(6):
        optimizer.lr = 0.5 / (step + 1)
        loss = sum((weights[n] * jt.array(golden[f"grads.{n}"][step])).sum() for n in NAMES)
        optimizer.step(loss)
    for name in NAMES:
        # float32: six steps of a few roundings of numbers around 1
        np.testing.assert_allclose(weights[name].numpy(), golden[f"lars.{name}"], rtol=0, atol=2e-6)
    moved = np.abs(golden["lars.weight"] - golden["start.weight"]).max()
    assert 1e-4 < moved < 0.1 < np.abs(golden["lars.bias"] - golden["start.bias"]).max()


def test_what_is_frozen_stays():
    frozen, free = jt.ones((2, 2)).stop_grad(), jt.ones((2, 2))
    optimizer = Lars([frozen, free], lr=1.0)
    optimizer.step((frozen * free).sum())
    assert (frozen.numpy() == 1).all() and (free.numpy() != 1).all()


def test_groups_may_differ():
    one, other = jt.ones((2, 2)), jt.ones((2, 2))
    optimizer = Lars([{"params": [one], "lr": 0.0}], lr=1.0, weight_decay=0.0)
    optimizer.add_param_group({"params": [other], "trust": 0.5})
    optimizer.step((one + other).sum())
    assert (one.numpy() == 1).all()
    assert other.numpy() == pytest.approx(0.5 * np.ones((2, 2)))  # 1 - 1 * .5 * 2 / 2


class Net(jt.nn.Module):
    def __init__(self):
        self.hidden, self.norm, self.out = (
            jt.nn.Linear(4, 8),
            jt.nn.BatchNorm1d(8),
            jt.nn.Linear(8, 2),
        )

    def execute(self, x):
        return self.out(jt.nn.relu(self.norm(self.hidden(x))))


def train(folder, epochs):
    jt.set_global_seed(3)
    net = Net()
    optimizer = Lars(list(net.parameters()), 0.1, trust=0.02)
    last = fit(
        lambda batch: {
            "loss": jt.nn.cross_entropy_loss(net(jt.array(batch[0])), jt.array(batch[1]))
        },
        optimizer,
        Points(),
        module=net,
        epochs=epochs,
        schedule=cosine_schedule(0.5, 20),
        run=Run(folder, {"optimizer": "lars"}),
        seed=1,
    )
    return last["loss"], checkpoint.module_arrays(net), checkpoint.optimizer_arrays(optimizer)


def test_a_resumed_run_equals_an_unbroken_one_and_learns(tmp_path):
    loss, unbroken, slots = train(tmp_path / "a", 4)
    first, half, _ = train(tmp_path / "b", 2)
    resumed_loss, resumed, resumed_slots = train(tmp_path / "b", 4)
    assert loss == resumed_loss < first
    assert any((half[name] != resumed[name]).any() for name in half)
    for name, array in unbroken.items():
        assert array.tobytes() == resumed[name].tobytes(), name
    velocities = slots["slots"]["0.values"], resumed_slots["slots"]["0.values"]
    for one, other in zip(*velocities, strict=True):
        assert one.tobytes() == other.tobytes()
    assert slots["n_step"] == resumed_slots["n_step"] == 20


def make():
    return jt.nn.Sequential(jt.nn.Linear(3, 2), jt.nn.BatchNorm1d(2))


def set_to(net, step):
    for name, value in net.state_dict().items():
        value.update(jt.array(load_golden("baselines/training")[f"states.{step}.{name}"]))


def test_three_updates_are_the_reference_codes():
    net = make()
    set_to(net, 0)
    ema = ModelEma(net, decay=0.9, warmup=False)
    for step in (1, 2, 3):
        set_to(net, step)
        ema.update()
    arrays = {name: value.numpy() for name, value in ema.average.state_dict().items()}
    assert len(arrays) == 6
    for name, array in arrays.items():
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
    ema = ModelEma(net, decay=0.2)
    expected = load_golden("baselines/training")["states.0.0.weight"].astype(np.float64)
    for step, decay in ((1, 1 / 10), (2, 2 / 11), (3, 0.2)):  # 3 / 12 would be above
        set_to(net, step)
        ema.update()
        new = load_golden("baselines/training")[f"states.{step}.0.weight"]
        expected = decay * expected + (1 - decay) * new
    np.testing.assert_allclose(ema.average[0].weight.numpy(), expected, rtol=0, atol=5e-7)


def test_an_unmoved_network_leaves_the_average_as_it_is():
    net = make()
    ema = ModelEma(net, decay=0.9, warmup=False)
    before = checkpoint.module_arrays(ema.average)
    for _ in range(5):
        ema.update()
    after = checkpoint.module_arrays(ema.average)
    source = checkpoint.module_arrays(net)
    for name in before:
        assert before[name].tobytes() == after[name].tobytes() == source[name].tobytes()


def test_it_is_a_network_of_its_own_that_never_trains():
    net = make()
    ema = ModelEma(net, decay=0.5, warmup=False)
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
        with evaluation_mode(ema.average):
            ema.average(images).sync()


def test_the_network_takes_the_averages_weights_over():
    net = make()
    set_to(net, 0)
    ema = ModelEma(net, decay=0.9)
    set_to(net, 1)
    ema.update()
    expected = checkpoint.module_arrays(ema.average)
    ema.copy_to_network()
    for name, array in checkpoint.module_arrays(net).items():
        assert array.tobytes() == expected[name].tobytes()
    set_to(net, 2)  # they stay two networks
    assert (
        checkpoint.module_arrays(ema.average)["0.weight"].tobytes()
        == expected["0.weight"].tobytes()
    )


def average_states(start, steps):
    net = make()
    set_to(net, start)
    ema = ModelEma(net, 0.9)
    for step in steps:
        set_to(net, step)
        ema.update()
    return ema


def test_a_checkpoint_holds_it(tmp_path):
    unbroken, half, resumed = (
        average_states(0, (1, 2, 3)),
        average_states(0, (1, 2)),
        average_states(3, ()),
    )
    checkpoint.restore_module(resumed, checkpoint.module_arrays(half), tmp_path)
    set_to(resumed.network, 3)
    resumed.update()
    expected, arrays = (checkpoint.module_arrays(each) for each in (unbroken, resumed))
    assert {"updates", "average.0.weight", "network.0.weight"} <= set(expected)
    for name, array in expected.items():
        assert array.tobytes() == arrays[name].tobytes(), name


def test_updates_are_carried_out_at_once():
    ema = ModelEma(make())
    ema.update()
    jt.sync_all()
    started = jt.liveness_info()["lived_vars"]
    for _ in range(30):
        ema.update()
    assert jt.liveness_info()["lived_vars"] - started < 30  # not some dozen a step


def test_what_cannot_be_averaged_is_refused():
    with pytest.raises(ValueError, match="decay is 1"):
        ModelEma(make(), decay=1.0)
    frozen = make()
    frozen.eval()
    with pytest.raises(ValueError, match="nothing in the network takes a gradient"):
        ModelEma(frozen)

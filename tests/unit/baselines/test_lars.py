"""LARS against MoCo v3's public code, and through the engine's checkpoints."""

import jittor as jt
import numpy as np
import pytest

from baselines.lars import Lars
from engine import checkpoint
from engine.run_log import Run
from engine.schedules import cosine
from engine.trainer import fit
from tests.helpers.golden import load_golden
from tests.helpers.points import Points

NAMES = ("weight", "bias", "zero", "kernel")


def test_six_steps_are_the_reference_codes():
    found = load_golden("baselines/training")
    weights = {name: jt.array(found[f"start.{name}"]) for name in NAMES}
    optimizer = Lars(list(weights.values()), lr=0.1, weight_decay=0.01)
    for step in range(6):
        optimizer.lr = 0.5 / (step + 1)
        loss = sum((weights[n] * jt.array(found[f"grads.{n}"][step])).sum() for n in NAMES)
        optimizer.step(loss)
    for name in NAMES:
        # float32: six steps of a few roundings of numbers around 1
        np.testing.assert_allclose(weights[name].numpy(), found[f"lars.{name}"], rtol=0, atol=2e-6)
    moved = np.abs(found["lars.weight"] - found["start.weight"]).max()
    assert 1e-4 < moved < 0.1 < np.abs(found["lars.bias"] - found["start.bias"]).max()


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
        schedule=cosine(0.5, 20),
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

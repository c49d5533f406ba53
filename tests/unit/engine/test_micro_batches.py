"""Micro-batches: how a batch is cut, and that their sum is the batch."""

import jittor as jt
import numpy as np
import pytest

from engine.micro_batches import MicroBatches
from engine.run_log import Run
from engine.schedules import cosine_schedule
from engine.trainer import fit


def test_they_must_suit_the_processes(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "3")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "5")
    for count in (0, 4, 7):
        with pytest.raises(ValueError, match="a multiple of the 5 processes"):
            MicroBatches(count)
    micro_batches = MicroBatches(10)
    assert list(micro_batches.local) == [6, 7]
    assert [part.tolist() for part in micro_batches.cut(np.arange(23))] == [[15, 16], [17, 18]]
    assert [micro_batches.locate(number) for number in range(3)] == [(0, 6), (0, 7), (1, 6)]
    assert np.allclose(micro_batches.weights(23), [3 / 23] * 3 + [2 / 23] * 7)
    with pytest.raises(ValueError, match="9 rows cannot be cut into 10"):
        micro_batches.cut(np.arange(9))


class Sums:
    """Batches of 6 random rows and their sums."""

    size = 6

    def __init__(self, micro_batches, steps):
        self.micro_batches, self.steps = micro_batches, steps

    def __len__(self):
        return self.steps

    def epoch(self, index):
        rng = np.random.default_rng((4, index))
        for _ in range(self.steps):
            rows = rng.standard_normal((6, 4)).astype(np.float32)
            for part in self.micro_batches.cut(np.arange(6)):
                yield rows[part], rows[part].sum(axis=1, keepdims=True)


class Net(jt.nn.Module):
    def __init__(self, norm):
        self.first, self.second = jt.nn.Linear(4, 8), jt.nn.Linear(8, 1)
        self.norm = jt.nn.BatchNorm1d(8) if norm else jt.nn.Identity()

    def execute(self, x):
        return self.second(self.norm(self.first(x)))


def train(folder, count, norm=False, steps=6):
    """Returns the state and the means after so many steps over `count` micro-batches."""
    jt.set_global_seed(0)
    net, micro_batches = Net(norm), MicroBatches(count)

    def step(batch):
        x, y = map(jt.array, batch)
        return {"loss": ((net(x) - y) ** 2).mean()}

    means = fit(
        step,
        jt.optim.SGD(net.parameters(), 0.1, 0.9),
        Sums(micro_batches, steps),
        module=net,
        epochs=1,
        schedule=cosine_schedule(0.1, steps),
        run=Run(folder / str(count), {}),
        seed=3,
    )
    return {name: value.numpy() for name, value in net.state_dict().items()} | means


def test_unequal_ones_add_up_to_the_batch(tmp_path):
    whole, cut = train(tmp_path, 1), train(tmp_path, 4)  # of 2, 2, 1 and 1 rows
    for name, value in whole.items():
        np.testing.assert_allclose(cut[name], value, rtol=1e-5, atol=1e-6)  # order of fp32 sums


def test_running_statistics_are_their_mean(tmp_path):
    whole, cut = (train(tmp_path, count, norm=True, steps=1) for count in (1, 3))
    mean, variance = "norm.running_mean", "norm.running_var"
    # a mean of means is the mean; variances within parts leave out the variance between them
    np.testing.assert_allclose(cut[mean], whole[mean], rtol=1e-5, atol=1e-6)
    assert (cut[variance] < whole[variance]).all() and np.abs(whole[mean]).min() > 0

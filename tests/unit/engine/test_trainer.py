"""The loop learns, resumes to the same bytes, and stops on a loss that is not finite."""

import json
import re
import shutil
import struct
import time

import jittor as jt
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from engine import checkpoint
from engine.predictor import predict
from engine.run_log import Run
from engine.schedules import cosine_schedule
from engine.trainer import NonFiniteLoss, fit
from tests.helpers.points import Points
from weight_files import safe_load

EPOCHS = 4


class Net(jt.nn.Module):
    """Batch norm brings buffers, dropout the random state: both must survive a resume."""

    def __init__(self):
        self.hidden = jt.nn.Linear(4, 8)
        self.norm = jt.nn.BatchNorm1d(8)
        self.drop = jt.nn.Dropout(0.3)
        self.out = jt.nn.Linear(8, 2)
        self.past = jt.zeros(EPOCHS).stop_grad()

    def execute(self, x):  # [B,4]
        return self.out(self.drop(self.norm(self.hidden(x))))  # [B,2]


def train(folder, epochs, poison=None, seed=1, after=lambda net, epoch: None):
    """Trains for `epochs` of a schedule of EPOCHS; returns the final arrays."""
    jt.set_global_seed(3)
    net = Net()
    optimizer = jt.optim.AdamW(list(net.parameters()), 0.01, weight_decay=0.1)
    steps = 0

    def step(batch):
        nonlocal steps
        steps += 1
        loss = jt.nn.cross_entropy_loss(net(jt.array(batch[0])), jt.array(batch[1]))
        return {"loss": loss * float("nan") if steps == poison else loss}

    run = Run(folder, {"lr": 0.01})
    fit(
        step,
        optimizer,
        Points(),
        module=net,
        epochs=epochs,
        schedule=cosine_schedule(0.02, 5 * EPOCHS),
        run=run,
        seed=seed,
        after_epoch=lambda epoch: after(net, epoch),
    )
    return checkpoint.module_arrays(net)


def losses(folder):
    return [
        json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


def test_a_resumed_run_moves_and_equals_an_unbroken_one(tmp_path):
    unbroken = train(tmp_path / "a", EPOCHS)
    half = train(tmp_path / "b", 2)
    resumed = train(tmp_path / "b", EPOCHS)
    assert any((half[name] != resumed[name]).any() for name in half)
    for name, array in unbroken.items():
        assert array.tobytes() == resumed[name].tobytes(), name
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert losses(tmp_path / "a")[-1] < losses(tmp_path / "a")[0]


def test_what_follows_an_epoch_is_in_its_checkpoint(tmp_path):
    class Stopped(Exception):
        """As a kill between an epoch and its checkpoint."""

    def mark(net, epoch, stop=None):
        past = net.past.numpy()
        past[epoch - 1] += 1
        net.past.update(jt.array(past))
        if epoch == stop:
            raise Stopped

    with pytest.raises(Stopped):
        train(tmp_path / "a", EPOCHS, after=lambda net, epoch: mark(net, epoch, stop=3))
    saved = safe_load(tmp_path / "a/checkpoint.pkl")
    assert saved["epochs_done"] == 2 and saved["module"]["past"].tolist() == [1, 1, 0, 0]
    resumed = train(tmp_path / "a", EPOCHS, after=mark)
    assert resumed["past"].tolist() == [1] * EPOCHS
    unbroken = train(tmp_path / "b", EPOCHS, after=mark)
    assert {n: a.tobytes() for n, a in resumed.items()} == {
        n: a.tobytes() for n, a in unbroken.items()
    }


def test_each_epoch_and_each_seed_draws_its_own_dropout(tmp_path):
    drawn = []
    for seed in (0, 1):  # Jittor's own seeds 0 and 1 draw the same
        train(
            tmp_path / str(seed),
            EPOCHS,
            seed=seed,
            after=lambda net, epoch: drawn.append(net.drop(jt.ones(64)).numpy().tobytes()),
        )
    assert len(set(drawn)) == 2 * EPOCHS


def test_an_epoch_prints_one_line(tmp_path, capsys):
    train(tmp_path / "net", EPOCHS)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == EPOCHS
    for number, (line, loss) in enumerate(zip(lines, losses(tmp_path / "net"), strict=True), 1):
        shown = re.escape(f"net epoch {number}/{EPOCHS}: loss {loss:.4g}, lr ")
        assert re.fullmatch(shown + r"[\d.e-]+, \d+\.\d s", line), line


def events(folder):
    """The events of every TensorBoard file, oldest file first (TFRecord: length, its checksum,
    data, its checksum).
    """
    for file in sorted((folder / "tensorboard").iterdir()):
        left = file.read_bytes()
        while left:
            (length,) = struct.unpack("<Q", left[:8])
            yield Event.FromString(left[12 : 12 + length])
            left = left[16 + length :]


def test_tensorboard_shows_what_was_logged_and_a_resumed_run_once(tmp_path):
    def keep(net, epoch):
        if epoch == 3:  # the checkpoint is that of epoch 2
            shutil.copy(tmp_path / "checkpoint.pkl", tmp_path / "epoch2.pkl")

    train(tmp_path, EPOCHS, after=keep)
    shutil.copy(tmp_path / "epoch2.pkl", tmp_path / "checkpoint.pkl")
    time.sleep(1.1)  # the files are named by the second
    train(tmp_path, EPOCHS)
    starts, shown = [], {}
    for event in events(tmp_path):
        if event.session_log.status == SessionLog.START:  # later steps are void from here on
            starts.append(event.step)
            shown = {key: value for key, value in shown.items() if key[0] < event.step}
        for value in event.summary.value:
            assert (event.step, value.tag) not in shown
            shown[event.step, value.tag] = value.simple_value
    assert starts == [0, 2]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    logged = {(line["epoch"], name): line[name] for line in lines for name in ("loss", "lr")}
    assert shown == pytest.approx(logged, rel=1e-6)  # the file holds float32
    assert len(shown) == 2 * EPOCHS


def test_another_configuration_starts_anew(tmp_path):
    train(tmp_path, 1)
    stored = (tmp_path / "checkpoint.pkl").read_bytes()
    Run(tmp_path, {"lr": 0.5})
    again = train(tmp_path, 1)
    assert (tmp_path / "checkpoint.pkl").read_bytes() == stored
    assert len(losses(tmp_path)) == 1 and again


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    with pytest.raises(NonFiniteLoss, match="epoch 2, step 3"):
        train(tmp_path, EPOCHS, poison=8)
    assert len(losses(tmp_path)) == 1
    train(tmp_path, EPOCHS)
    assert len(losses(tmp_path)) == EPOCHS


def test_a_foreign_checkpoint_is_refused(tmp_path):
    train(tmp_path, 1)
    arrays = checkpoint.module_arrays(jt.nn.Linear(4, 8))
    with pytest.raises(ValueError, match="not a checkpoint of this model"):
        checkpoint.restore_module(Net(), arrays, tmp_path / "checkpoint.pkl")


@pytest.mark.parametrize("count", [0, 1, 4, 7, 8])
def test_predict_keeps_order_and_pads_to_one_shape(count):
    shapes = set()

    def forward(x):
        shapes.add(tuple(x.shape))
        return x * 2

    rows = [np.full(3, i, np.float32) for i in range(count)]
    outputs = predict(forward, rows, batch=4)
    assert outputs.tolist() == [[2.0 * i] * 3 for i in range(count)]
    assert shapes <= {(4, 3)}

"""Runs that are stopped or meet another run: the same command goes on to the same bytes."""

import os
import signal
import time

import pytest

from engine.run_lock import run_lock
from runtime.paths import ROOT
from tests.helpers.main_job import predict_config, result_lines, score
from tests.robustness.small_training import (
    EPOCHS,
    PROGRAM,
    begin,
    command,
    contents,
    end,
    left_over,
    run,
    until,
)
from weight_files import safe_load


def test_signals_stop_a_training_and_the_same_command_goes_on(photos, whole, tmp_path):
    reached = 0
    for name, status in (
        ("SIGTERM", 75),
        ("SIGINT", 130),
    ):  # each: tests/unit/runtime/test_signals.py
        process = begin(command(photos, tmp_path))
        until(process, f"epoch {reached + 3}/{EPOCHS}")
        process.send_signal(signal.Signals[name])
        ended_with, message = end(process)
        assert ended_with == status
        reached = int(message.partition(" after epoch ")[2].split()[0])
        remedy = "; the same command goes on from there"
        assert message == (
            f"{PROGRAM}: stopped by {name} after epoch {reached} of {EPOCHS} of scratch{remedy}\n"
        )
        assert safe_load(tmp_path / "scratch/checkpoint.pkl")["epochs_done"] == reached
        assert not left_over(tmp_path)
    status, message = run(command(photos, tmp_path))
    assert (status, message) == (0, "")
    assert contents(tmp_path) == contents(whole)


def test_a_stopped_resnet_goes_on_to_the_same_bytes(photos, tmp_path):
    """Restored arrays must not be fused into the first step, which would round differently."""
    fields = ["--dataset", "folder", "--root", photos, "--val_share", 0.25, "--image_size", 8]
    fields += ["--batch_size", 4, "--epochs", 4, "--lr", 0.01, "--device", "cpu", "--workers", 0]

    def words(out):
        return list(map(str, [ROOT / "train.py", "simclr", *fields, "--out", tmp_path / out]))

    process = begin(words("stopped"))
    until(process, "epoch 1/4")
    process.send_signal(signal.SIGUSR1)
    assert end(process)[0] == 75
    assert [run(words(out))[0] for out in ("stopped", "whole")] == [0, 0]  # Jittor may compile
    ended_with = {(tmp_path / out / "encoder.pkl").read_bytes() for out in ("stopped", "whole")}
    assert len(ended_with) == 1


def test_signals_stop_test_py_and_the_same_command_goes_on(job, tmp_path):
    config = predict_config(job, tmp_path / "out")
    words = [str(ROOT / "test.py")]
    for name in ("data", "weights", "auxiliary", "parts", "out", "cache", "views", "report"):
        words += [f"--{name}", str(getattr(config, name))]
    words += ["--device", "cpu"]
    process = begin(words)
    shards = tmp_path / "out/shards"
    while process.poll() is None and not list(shards.glob("*/*.npz")):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    status, message = end(process)
    assert status == 75
    done = 64 * len(list(shards.glob("*/*.npz")))
    remedy = "; the same command goes on from there"
    assert message == f"test.py: stopped by SIGTERM after {done} of 817 images{remedy}\n"
    assert not (tmp_path / "out/result.txt").exists() and not left_over(tmp_path)
    assert run(words) == (0, "")
    assert result_lines(tmp_path / "out") == score(job, tmp_path / "unbroken")


def test_two_runs_in_one_folder(photos, whole, tmp_path):
    first = begin(command(photos, tmp_path))
    until(first, f"epoch 2/{EPOCHS}")
    first.send_signal(signal.SIGSTOP)  # it hangs, and still owns the folder
    status, message = run(command(photos, tmp_path))
    first.send_signal(signal.SIGCONT)
    assert status == 1 and message.count("\n") == 1
    assert message.startswith(f"{PROGRAM}: {tmp_path}: in use by `")
    assert f"--out {tmp_path}` (process {first.pid} of " in message
    assert message.endswith("): wait until it ends, or name another folder\n")
    assert end(first) == (0, "")
    assert contents(tmp_path) == contents(whole) and not left_over(tmp_path)


def test_two_scorings_in_one_folder_but_shards_share_it(job, tmp_path):
    with run_lock(tmp_path / ".lock"):
        with pytest.raises(ValueError, match=f"{tmp_path}: in use by .*process {os.getpid()} of"):
            score(job, tmp_path)
        with pytest.raises(ValueError, match="i/n is needed"):  # it came past the lock
            score(job, tmp_path, shard="3/2")

"""Reads that hang, memory that runs out, clocks that jump, and numbers that are not finite."""

import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from baselines.datasets.image_sets import folder_set
from data.decoding import BrokenImage, load_images, map_in_order, track_read, warn_on_stalled_reads
from data.lists import DataError
from engine.run_log import Run
from tests.helpers.machine import require_command
from tests.robustness.small_training import (
    EPOCHS,
    MEMORY,
    PROGRAM,
    begin,
    command,
    contents,
    end,
    until,
)


def test_a_pipe_in_an_images_place_is_refused_at_once(photos, tmp_path):
    listed = folder_set(shutil.copytree(photos, tmp_path / "photos"), "train/")
    listed.images[0].unlink()
    os.mkfifo(listed.images[0])
    with pytest.raises(DataError, match=f"{listed.images[0]}: is not a regular file; replace"):
        listed.image(0)


def open_pipe(path):
    """Reads a pipe to its end, like a file on a mount that is gone."""
    with track_read(path):
        return path.read_bytes()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_read_that_hangs_is_named_and_waited_for(workers, tmp_path, capsys):
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path in paths:
        path.write_text(path.name)
    paths[1].unlink()
    os.mkfifo(paths[1])
    with warn_on_stalled_reads(limit_s=0.2):
        later = threading.Timer(1.0, paths[1].write_bytes, [b"b"])
        later.start()
        assert list(map_in_order(open_pipe, paths, workers)) == [b"a", b"b", b"c"]
        later.join()
    message = capsys.readouterr().err
    assert message.startswith(f"warning: {paths[1]}: still being read after 0.2 s")
    assert message.count("\n") == 1


HUNG = """
import sys
from pathlib import Path
from data.decoding import map_in_order, track_read
from runtime.signals import exit_on_signal

def read(path):
    with track_read(path):
        print("begun", flush=True)
        return path.read_bytes()

with exit_on_signal("program"):
    list(map_in_order(read, [Path(sys.argv[1])], 2))
"""


def test_a_signal_ends_a_run_whose_worker_hangs(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    process = begin(["-c", HUNG, str(tmp_path / "pipe")])
    until(process, "begun")
    process.send_signal(signal.SIGTERM)
    remedy = "; the same command goes on from what is finished"
    assert end(process) == (75, f"program: stopped by SIGTERM{remedy}\n")


@pytest.fixture
def little_memory():
    """Limits this process to 100 MiB more than it has now."""
    before = resource.getrlimit(MEMORY)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(MEMORY, (pages * resource.getpagesize() + 100 * 2**20, before[1]))
    yield
    resource.setrlimit(MEMORY, before)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_needs_more_memory_than_there_is(workers, tmp_path, little_memory):
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    Image.new("1", (8, 8)).save(small)
    Image.new("1", (9000, 9000)).save(large)  # 243 MB as RGB, from 11 kB
    loaded = load_images([small, large], lambda image: np.asarray(image.convert("RGB")), workers)
    assert not isinstance(next(loaded)[1], BrokenImage)
    with pytest.raises(OSError, match="no memory left for this image: take fewer") as caught:
        next(loaded)
    assert caught.value.filename == str(large)


def test_a_clock_that_jumps(photos, whole, tmp_path):
    require_command("faketime", "REQUIRE_FAKETIME", "faketime")
    shown = subprocess.run(
        ["faketime", "-f", "+0d", "env"], capture_output=True, text=True, check=True
    )
    environment = dict(line.partition("=")[::2] for line in shown.stdout.splitlines())
    clock = tmp_path / "clock"
    clock.write_text("+400d")
    faked = {"LD_PRELOAD": environment["LD_PRELOAD"], "FAKETIME_TIMESTAMP_FILE": str(clock)}
    faked |= {"FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    process = begin(command(photos, tmp_path / "out"), environment=faked)
    until(process, f"epoch 2/{EPOCHS}")
    clock.write_text("-400d")
    assert end(process) == (0, "")
    (scalars,) = (tmp_path / "out/scratch/tensorboard").iterdir()
    assert int(scalars.name.split(".")[3]) > time.time() + 399 * 86_400  # it was believed
    assert contents(tmp_path / "out") == contents(whole)


def test_a_loss_that_is_not_finite(photos, whole, refused, tmp_path):
    shutil.copytree(whole, tmp_path / "out")
    before = (tmp_path / "out/scratch/checkpoint.pkl").read_bytes()
    message = refused(command(photos, tmp_path / "out", "--lr", "1e38"))
    assert message.startswith(f"{PROGRAM}: the loss is ") and message.endswith(
        "lower the learning rate"
    )
    assert (tmp_path / "out/scratch/checkpoint.pkl").read_bytes() == before


def test_a_checkpoint_that_was_cut_short_is_not_read(photos, whole, refused, tmp_path):
    shutil.copytree(whole, tmp_path / "out")
    (tmp_path / "out/scratch/result.json").unlink()
    checkpoint = tmp_path / "out/scratch/checkpoint.pkl"
    for size in (0, 100, checkpoint.stat().st_size - 1):
        checkpoint.write_bytes(checkpoint.read_bytes()[:size])
        message = refused(command(photos, tmp_path / "out"))
        assert message.startswith(f"{PROGRAM}: {checkpoint} ") and message.endswith("run again")


def test_a_line_of_metrics_that_was_cut_short_is_dropped(tmp_path):
    record = Run(tmp_path, {})
    for epoch in range(3):
        record.log(epoch, {"loss": 1.5})
    record.close()
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-9])  # killed while it was written
    again = Run(tmp_path, {})
    again.rewind(2)
    assert [line["epoch"] for line in again.lines()] == [0, 1]

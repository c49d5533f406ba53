"""Several processes give the bytes of one, and end together."""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from fewshot.stages.parts import PART_TYPES
from runtime.paths import ROOT
from scripts import make_demo
from tests.helpers.machine import require_command
from tests.helpers.tiny_clip import write_tiny_clip
from weight_files import safe_load


def mpirun(count, *command, **options):
    """Runs Python on so many ranks of one thread each; without mpirun if `count` is 0."""
    require_command("mpirun", "REQUIRE_MPI", "openmpi-bin libopenmpi-dev")
    start = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(count)]
    start += ["--allow-run-as-root"] if os.geteuid() == 0 else []
    words = [*(start if count else []), sys.executable, *map(str, command)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        words, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=600, **options
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """2 classes x (10 training, 5 test) images that differ in colour."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for part, count in (("train", 10), ("test", 5)):
        for channel, name in enumerate(("red", "green")):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 128, (32, 32, 3))
                pixels[:, :, channel] += 100
                Image.fromarray(pixels.astype(np.uint8)).save(root / part / name / f"{number}.png")
    return root


def fine_tune(photos, out, *fields):
    command = ["train.py", "caltech_finetune", "--dataset", "folder", "--root", photos]
    command += ["--workers", 0, "--device", "cpu", "--val_share", 0.2, "--image_size", 32]
    command += ["--network", "vit_tiny", "--unfreeze", "last 1 blocks", "--batch_size", 8]
    return [*command, "--grad_accum", 4, "--epochs", 2, "--mix", 0.5, "--out", out, *fields]


def test_a_baseline_is_the_same_on_1_2_and_4_ranks(photos, tmp_path):
    runs = [mpirun(count, *fine_tune(photos, tmp_path / str(count))) for count in (0, 2, 4)]
    assert [run.returncode for run in runs] == [0, 0, 0], runs[1].stderr + runs[2].stderr
    for name in ("best.pkl", "result.json", "metrics.jsonl", "confusion.csv"):
        contents = {(tmp_path / f"{count}/vit_tiny" / name).read_bytes() for count in (0, 2, 4)}
        assert len(contents) == 1, name
    assert runs[2].stdout.count("vit_tiny epoch 2/2") == 1  # one rank prints
    assert len(list((tmp_path / "4/vit_tiny/tensorboard").iterdir())) == 1  # and writes


def test_the_main_job_is_the_same_on_1_2_and_4_ranks(tmp_path):
    data = tmp_path / "demo"
    make_demo.make(data, 0)
    write_tiny_clip(tmp_path / "clip.pkl")
    write_tiny_clip(tmp_path / "second.pkl", seed=5)
    fields = ["--data", data, "--weights", tmp_path / "clip.pkl"]
    fields += ["--auxiliary", tmp_path / "second.pkl"]
    stages = list(PART_TYPES)
    contents = []
    for count in (0, 2, 4):
        out = tmp_path / str(count)
        places = ["--parts", out / "parts", "--cache", out / "cache"]
        train = ["--runs", out / "runs", "--views", 2, "--prompt.epochs", 2, "--lora.epochs", 2]
        train += ["--prompt.grad_accum", 4, "--lora.grad_accum", 4, "--lora.batch_size", 8]
        for program in (
            ["train.py", "clip_fewshot", *fields, *places, *train],
            ["test.py", *fields, *places, "--out", out, "--views", 2, "--report", "False"],
        ):
            done = mpirun(count, *program)
            assert done.returncode == 0, done.stdout + done.stderr
        parts = [(out / f"parts/{stage}.pkl").read_bytes() for stage in stages]
        contents.append(
            [*parts, (out / "result.txt").read_bytes(), (out / "result.zip").read_bytes()]
        )
        origin = safe_load(out / "parts/lora.pkl")["meta"]
        assert origin["inputs"]["lora"]["grad_accum"] == 4
        assert not list(out.glob("cache/*.?.npz"))  # the ranks' features are joined
    assert contents[0] == contents[1] == contents[2]


def test_mpirun_of_one_process_is_a_run_of_one(photos, tmp_path):
    runs = [
        mpirun(count, *fine_tune(photos, tmp_path / str(count), "--epochs", 1)) for count in (0, 1)
    ]
    assert [run.returncode for run in runs] == [0, 0], runs[1].stderr
    contents = {(tmp_path / f"{count}/vit_tiny/best.pkl").read_bytes() for count in (0, 1)}
    assert len(contents) == 1


def test_a_rank_that_fails_ends_all_with_its_message(photos, tmp_path):
    bad = tmp_path / "photos"
    shutil.copytree(photos, bad)
    for path in sorted((bad / "test").glob("*/*.png"))[-3:]:  # the last rank's share
        path.write_bytes(b"no picture")
    started = time.monotonic()
    failed = mpirun(2, *fine_tune(bad, tmp_path / "out"))
    assert failed.returncode == 1 and time.monotonic() - started < 300
    lines = [line for line in failed.stderr.splitlines() if line.startswith("train.py")]
    assert len(lines) == 1 and ", rank 1: " in lines[0] and "test/red" in lines[0]
    everywhere = mpirun(2, *fine_tune(tmp_path / "nowhere", tmp_path / "out"))
    lines = [line for line in everywhere.stderr.splitlines() if line.startswith("train.py")]
    assert len(lines) == 1 and "nowhere" in lines[0]  # printed once

"""Several processes give what one gives, bit for bit, and end together."""

import os
import shutil
import subprocess
import sys
import time

import jittor as jt
import numpy as np
import pytest
from PIL import Image

from engine.micro_batches import MicroBatches
from engine.run_log import Run
from engine.schedules import cosine
from engine.trainer import fit
from fewshot.stages.parts import PART_TYPES
from runtime.distributed import (
    all_gather,
    is_main_process,
    local_range,
    rank,
    single_process,
    world_size,
)
from runtime.paths import ROOT
from scripts import make_demo
from tests.helpers.machine import require_command
from tests.helpers.tiny_clip import write_tiny_clip
from weight_files import safe_load


@pytest.fixture
def fourth_of_five(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "3")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "5")


def test_shares_are_whole_and_do_not_overlap(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "5")
    for total, unit in ((23, 1), (3, 1), (0, 1), (23, 4), (64, 32)):
        found = []
        for number in range(5):
            monkeypatch.setenv("OMPI_COMM_WORLD_RANK", str(number))
            own = local_range(total, unit)
            assert not own or own.start % unit == 0
            found += own
        assert found == list(range(total))


def test_apart_is_a_run_of_its_own(fourth_of_five, tmp_path):
    from runtime.files import atomic_write

    with atomic_write(tmp_path / "nobody.txt") as file:
        file.write("a rank that is not the first writes nothing")
    assert (rank(), world_size(), is_main_process()) == (3, 5, False)
    with single_process():
        assert (rank(), world_size(), is_main_process()) == (0, 1, True)
        with atomic_write(tmp_path / "own.txt") as file:
            file.write("but its own")
    assert (rank(), [path.name for path in tmp_path.iterdir()]) == (3, ["own.txt"])


def test_pieces_must_suit_the_processes(fourth_of_five):
    for count in (0, 4, 7):
        with pytest.raises(ValueError, match="a multiple of the 5 processes"):
            MicroBatches(count)
    pieces = MicroBatches(10)
    assert list(pieces.local) == [6, 7]
    assert [part.tolist() for part in pieces.cut(np.arange(23))] == [[15, 16], [17, 18]]
    assert [pieces.locate(number) for number in range(3)] == [(0, 6), (0, 7), (1, 6)]
    assert np.allclose(pieces.weights(23), [3 / 23] * 3 + [2 / 23] * 7)
    with pytest.raises(ValueError, match="9 rows cannot be cut into 10"):
        pieces.cut(np.arange(9))


class Points:
    """Batches of 6 rows, in as many pieces."""

    size = 6

    def __init__(self, pieces, steps):
        self.pieces, self.steps = pieces, steps

    def __len__(self):
        return self.steps

    def epoch(self, index):
        rng = np.random.default_rng((4, index))
        for _ in range(self.steps):
            rows = rng.standard_normal((6, 4)).astype(np.float32)
            for part in self.pieces.cut(np.arange(6)):
                yield rows[part], rows[part].sum(axis=1, keepdims=True)


class Net(jt.nn.Module):
    def __init__(self, norm):
        self.first, self.second = jt.nn.Linear(4, 8), jt.nn.Linear(8, 1)
        self.norm = jt.nn.BatchNorm1d(8) if norm else jt.nn.Identity()

    def execute(self, x):
        return self.second(self.norm(self.first(x)))


def trained(folder, count, norm=False, steps=6):
    """The state after so many steps in `count` pieces."""
    jt.set_global_seed(0)
    net, pieces = Net(norm), MicroBatches(count)

    def step(batch):
        x, y = map(jt.array, batch)
        return {"loss": ((net(x) - y) ** 2).mean()}

    found = fit(
        step,
        jt.optim.SGD(net.parameters(), 0.1, 0.9),
        Points(pieces, steps),
        module=net,
        epochs=1,
        schedule=cosine(0.1, steps),
        run=Run(folder / str(count), {}),
        seed=3,
    )
    return {name: value.numpy() for name, value in net.state_dict().items()} | found


def test_pieces_of_unequal_size_add_up_to_the_batch(tmp_path):
    whole, cut = trained(tmp_path, 1), trained(tmp_path, 4)  # of 2, 2, 1 and 1 rows
    for name, value in whole.items():
        np.testing.assert_allclose(cut[name], value, rtol=1e-5, atol=1e-6)  # order of fp32 sums


def test_running_statistics_are_the_mean_of_the_pieces(tmp_path):
    whole, cut = (trained(tmp_path, count, norm=True, steps=1) for count in (1, 3))
    mean, variance = "norm.running_mean", "norm.running_var"
    # a mean of means is the mean; variances within pieces leave out the variance between them
    np.testing.assert_allclose(cut[mean], whole[mean], rtol=1e-5, atol=1e-6)
    assert (cut[variance] < whole[variance]).all() and np.abs(whole[mean]).min() > 0


def test_one_process_gathers_its_own():
    own = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert all_gather(own, 3, 0) is own


def mpirun(count, *command, **options):
    """Runs a program of the kit on so many ranks, one thread each."""
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
    """2 classes x (10 training, 5 test) images, told apart by colour."""
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
    said = [mpirun(count, *fine_tune(photos, tmp_path / str(count))) for count in (0, 2, 4)]
    assert [each.returncode for each in said] == [0, 0, 0], said[1].stderr + said[2].stderr
    for name in ("best.pkl", "result.json", "metrics.jsonl", "confusion.csv"):
        found = {(tmp_path / f"{count}/vit_tiny" / name).read_bytes() for count in (0, 2, 4)}
        assert len(found) == 1, name
    assert said[2].stdout.count("vit_tiny epoch 2/2") == 1  # one rank speaks
    assert len(list((tmp_path / "4/vit_tiny/tensorboard").iterdir())) == 1  # and writes


def test_the_main_job_is_the_same_on_1_2_and_4_ranks(tmp_path):
    data = tmp_path / "demo"
    make_demo.make(data, 0)
    write_tiny_clip(tmp_path / "clip.pkl")
    write_tiny_clip(tmp_path / "second.pkl", seed=5)
    fields = ["--data", data, "--weights", tmp_path / "clip.pkl"]
    fields += ["--auxiliary", tmp_path / "second.pkl"]
    stages = list(PART_TYPES)
    found = []
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
        found.append([*parts, (out / "result.txt").read_bytes(), (out / "result.zip").read_bytes()])
        assert safe_load(out / "parts/lora.pkl")["config"]["grad_accum"] == 4
        assert not list(out.glob("cache/*.?.npz"))  # what each rank encoded is put together
    assert found[0] == found[1] == found[2]


def test_mpirun_of_one_process_is_a_run_of_one(photos, tmp_path):
    one = [
        mpirun(count, *fine_tune(photos, tmp_path / str(count), "--epochs", 1)) for count in (0, 1)
    ]
    assert [each.returncode for each in one] == [0, 0], one[1].stderr
    found = {(tmp_path / f"{count}/vit_tiny/best.pkl").read_bytes() for count in (0, 1)}
    assert len(found) == 1


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
    assert len(lines) == 1 and "nowhere" in lines[0]  # said once

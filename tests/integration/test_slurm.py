"""The sbatch files under a real Slurm: preemption, mistakes and arrays."""

import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from runtime.paths import ROOT
from tests.helpers.machine import PACKAGES
from tests.helpers.slurm_cluster import LIMIT_S, Cluster, absent, wait_for

IMAGES = 130  # three pieces of test.py, so that two shards differ in length


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A Slurm whose jobs run in a folder of their own, with links to the kit's files."""
    if reason := absent():
        assert not os.environ.get("REQUIRE_SLURM"), reason
        pytest.skip(reason)
    kit = tmp_path_factory.mktemp("kit")
    for name in ("train.py", "test.py", *PACKAGES):
        (kit / name).symlink_to(ROOT / name)
    shutil.copytree(
        ROOT / "slurm", kit / "slurm", ignore=lambda _, names: [n for n in names if ".log" in n]
    )
    started = Cluster(tmp_path_factory.mktemp("slurm"), kit)
    try:
        started.start()
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    """A baseline's fields: 2 classes x (8 training, 4 test) images of 32 x 32 noisy pixels."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 4)):
        for name in ("dark", "light"):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 128, (32, 32, 3)) + 100 * (name == "light")
                Image.fromarray(pixels.astype(np.uint8)).save(root / part / name / f"{number}.png")
    fields = ["--dataset", "folder", "--root", root, "--workers", 0, "--device", "cpu"]
    return [*fields, "--val_share", 0.25, "--image_size", 8]


def simclr(fields, epochs):
    small = ("--batch_size", 4, "--lr", 0.01, "--knn_every", 0)
    return ["slurm/train_from_scratch.sbatch", *fields, *small, "--epochs", epochs]


def epochs_of(run):
    """Returns the number of epochs that a run has logged."""
    metrics = run / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0


def test_a_preempted_job_goes_on_by_itself_to_the_same_bytes(cluster, job):
    fields = ["slurm/train_from_pretrain.sbatch", "--data", job / "demo", "--device", "cpu"]
    fields += [
        "--weights",
        job / "clip.pkl",
        "--auxiliary",
        job / "clip.pkl",
        "--views",
        2,
    ]
    fields += ["--lora.epochs", 8, "--lora.batch_size", 7, "--prompt.epochs", 8]
    whole = cluster.submit("--job-name=whole", *fields, "--cache", "whole_cache")
    broken = cluster.submit(*fields)
    folder = cluster.kit / f"runs/train_from_pretrain-{broken}"
    wait_for("an epoch", lambda: epochs_of(folder / "prompt"), LIMIT_S)
    cluster.run("scancel", "--batch", "--signal=USR1", broken)  # as before the time limit
    wait_for("an epoch of the next stage", lambda: epochs_of(folder / "lora"), LIMIT_S)
    cluster.run("scontrol", "requeue", broken)  # as preemption does
    assert cluster.ended(broken) == cluster.ended(whole) == "COMPLETED"
    assert cluster.field(broken, "Restarts") == "2" and cluster.field(whole, "Restarts") == "0"
    log = cluster.log(f"train_from_pretrain-{broken}.log")
    assert re.findall(r"start (\d) on", log) == ["1", "2", "3"]
    assert log.count("train.py clip_fewshot: stopped by SIGUSR1") == 1
    assert log.count("goes back to the queue") == 1  # the second time, Slurm requeued it
    for stage in ("prompt", "lora"):
        for number in range(1, 9):
            assert log.count(f"{stage} epoch {number}/8:") == 1  # nothing was done twice
    unbroken = cluster.kit / f"runs/whole-{whole}/test_pkl"
    expected = {path.name: path.read_bytes() for path in unbroken.glob("*.pkl")}
    assert len(expected) == 8
    assert {path.name: path.read_bytes() for path in folder.glob("test_pkl/*.pkl")} == expected


def test_a_mistake_fails_with_one_line_and_a_cancelled_job_stays_so(cluster, fields):
    cancelled = cluster.submit(*simclr(fields, 500))
    wrong = cluster.submit(*simclr(fields, 1), "--root", "nowhere")
    run = cluster.kit / f"runs/train_from_scratch-{cancelled}/simclr"
    wait_for("an epoch", lambda: epochs_of(run), LIMIT_S)
    cluster.run("scancel", cancelled)
    assert cluster.ended(wrong) == "FAILED" and cluster.field(wrong, "ExitCode") == "1:0"
    started, *rest = cluster.log(f"train_from_scratch-{wrong}.log").splitlines()
    assert started.startswith(f"slurm: train_from_scratch {wrong}, start 1 on ")
    assert len(rest) == 1 and rest[0].startswith("train.py simclr: nowhere: no such folder")
    assert cluster.ended(cancelled) == "CANCELLED"
    assert cluster.field(cancelled, "Restarts") == "0"


def test_shards_of_an_array_merge_to_the_whole_result(cluster, job, tmp_path):
    for image in sorted((job / "demo/TestSetB").iterdir())[:IMAGES]:
        (tmp_path / image.name).symlink_to(image)
    fields = ["slurm/test.sbatch", "--images", tmp_path, "--data", job / "demo"]
    fields += ["--weights", job / "clip.pkl", "--auxiliary", job / "auxiliary.pkl"]
    fields += ["--parts", job / "parts", "--views", 2, "--report", False, "--device", "cpu"]
    array = cluster.submit("--array=1-2", *fields)
    shared = ["--out", f"runs/test-{array}"]
    after = ["--kill-on-invalid-dep=yes", f"--dependency=afterok:{array}"]
    merged = cluster.submit(*after, *fields, *shared, "--merge", True)
    whole = cluster.submit("--job-name=whole", *fields, "--cache", tmp_path / "cache")
    assert cluster.ended(whole) == cluster.ended(merged) == "COMPLETED"
    logs = [cluster.log(f"test-{array}_{number}.log") for number in (1, 2)]
    assert "shard 1/2, 66 of 130 images" in logs[0] and "shard 2/2, 64 of 130 images" in logs[1]
    assert "130 images -> " in cluster.log(f"test-{merged}_1.log")
    results = [f"runs/{name}/result.txt" for name in (f"test-{array}", f"whole-{whole}")]
    first, second = ((cluster.kit / name).read_bytes() for name in results)
    assert first == second and first.count(b"\n") == IMAGES


def test_an_array_of_seeds_becomes_one_table(cluster, fields):
    words = ["slurm/sweep.sbatch", "grid", "linear_eval", "--phase", "scratch"]
    recipe = ["--", *fields, "--source", "scratch", "--epochs", 2]
    array = cluster.submit("--array=1-2", *words, *recipe)
    after = ["--array=1", "--kill-on-invalid-dep=yes", f"--dependency=afterok:{array}"]
    out = ["--out", f"runs/sweep-{array}", "--seeds", 1, 2]
    table = cluster.submit(*after, *words, *out, *recipe)
    assert cluster.ended(table) == "COMPLETED"
    folder = cluster.kit / f"runs/sweep-{array}"
    assert {path.name for path in folder.glob("plain/seed*")} == {"seed1", "seed2"}
    assert "±" in (folder / "table.csv").read_text()
    logs = [cluster.log(f"sweep-{array}_{number}.log") for number in (1, 2)]
    assert all(f"plain, seed {number}\n" in log for number, log in enumerate(logs, 1))
    assert "epoch 2/2" in logs[0] and "epoch 2/2" not in cluster.log(f"sweep-{table}_1.log")

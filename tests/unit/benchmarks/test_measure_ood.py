"""benchmarks/measure_ood.py on random features: its rows, and the message for an array it lacks."""

import re
import subprocess
import sys

import numpy as np

from runtime.paths import ROOT


def write_features(path, without=()):
    """Ten classes of two shots near their names; the other images lie near the negatives."""
    rng = np.random.default_rng(0)
    text, negatives = rng.standard_normal((10, 16)), rng.standard_normal((30, 16))
    labels, test_labels = np.arange(10).repeat(2), np.arange(10).repeat(8)

    def near(centres):
        return (centres + 0.6 * rng.standard_normal(centres.shape)).astype(np.float16)

    arrays = {
        "text": text,
        "train_features_2shot": near(text[labels]),
        "train_labels_2shot": labels,
        "test_features": near(text[test_labels]),
        "test_labels": test_labels,
        "negative_text": negatives,
        "other_features": near(negatives),
    }
    np.savez(path, **{name: a for name, a in arrays.items() if name not in without})


def measure(path):
    command = [sys.executable, "-m", "benchmarks.measure_ood", str(path), "--seeds", "0", "1"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_measures_each_task_and_score(tmp_path):
    write_features(tmp_path / "features.npz")
    done = measure(tmp_path / "features.npz")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()[1:]
    cells = [re.split(r"\s{2,}", line) for line in lines]
    assert [task for task, *_ in cells] == ["far"] * 4 + ["near, known"] * 4 + ["near, unknown"] * 4
    aurocs = {(task, score): float(auroc) for task, score, auroc, *_ in cells}
    assert all(50 < auroc <= 100 for auroc in aurocs.values()), aurocs
    for task in ("far", "near, known"):  # the images lie where the names say
        assert aurocs[task, "filter, 2 shots"] > 90 < aurocs[task, "mass on names"]


def test_names_what_a_file_lacks(tmp_path):
    write_features(tmp_path / "features.npz", without=("negative_text",))
    done = measure(tmp_path / "features.npz")
    assert done.returncode == 1 and "features.npz: lacks negative_text" in done.stderr

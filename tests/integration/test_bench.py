"""The benchmarks run, compare like with like and report. No test here looks at a time."""

import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import bench
from runtime.paths import ROOT


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """One thread, because other tests may run at the same time."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_views_are_the_same_either_way(capsys):
    report = bench.main(bench.Views(images=2, views=3, side=32, repeats=1))
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == report
    ours, anew = report["ways"].values()
    assert ours["ratio"] == 1 and anew["same"]  # to the bit: it is the same crop of the same pixels


@pytest.mark.parametrize(
    ("options", "ways"),
    [
        (bench.Image(batch=2, repeats=1), ["fp32", "plain", "limit"]),
        (bench.Lora(batch=2, classes=4, repeats=1), ["fp32", "plain"]),
        (bench.Head(shots=1, iterations=3, repeats=1), ["corrected", "published"]),
        (bench.Mta(images=1, views=3, repeats=1), ["fp32", "plain"]),
    ],
    ids=["image", "lora", "head", "mta"],
)
def test_every_way_runs(options, ways, capsys):
    rows = bench.main(options)["ways"]
    for word in ways:
        assert any(word in name for name in rows)
    for name, row in rows.items():
        assert row["median"] > 0 and len(row["seconds"]) == 1
        # fp32 by other operators: the order of sums
        assert row["cosine"] is None or row["cosine"] > 0.99999, name


def test_medians_leave_the_first_run_out_and_ways_take_turns(tmp_path):
    class Worker:
        """Answers as a worker does."""

        calls, clock = [], iter([9, 9, 3, 4, 1, 6, 2, 5])

        def run(self, way, save_to=None):
            self.calls.append(way)
            if save_to:
                np.save(save_to, np.ones((2, 3), np.float32))
            return {"seconds": next(self.clock), "peak_mb": 7}

    worker = Worker()
    rows = bench.measure({"ours": worker, "theirs": worker}, 3, tmp_path)
    assert worker.calls == ["ours", "theirs"] * 4
    assert rows["ours"]["seconds"] == [3, 1, 2] and rows["theirs"]["seconds"] == [4, 6, 5]
    line = bench.report("image", {}, 10, rows)
    assert line["ways"]["theirs"]["ratio"] == 2.5 and line["ways"]["ours"]["per_s"] == 5


def test_the_least_cosine_is_of_rows():
    rows = np.eye(3, dtype=np.float32)
    other = rows.copy()
    other[1] = [0, 3, 4]
    assert bench.least_cosine(rows, other) == pytest.approx(0.6)
    assert bench.least_cosine(rows, rows[:2]) is None


PUBLIC = """
import jittor as jt

class CLIP(jt.Module):
    def __init__(self, vision_width, **_):
        self.weight = jt.zeros(vision_width)

    def encode_image(self, images):
        return images.mean(3).mean(2) + self.weight.mean()
"""


def test_a_worker_that_ends_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"a worker ended: .*kit_ways"):
        bench.Worker([sys.executable, "kit_ways"], "views", {"unknown": 1}, tmp_path)


def test_what_is_no_checkout_is_named(tmp_path):
    with pytest.raises(SystemExit, match="no checkout of JCLIP, jclip/model.py is missing"):
        bench.Image(stock=tmp_path)


def test_a_checkout_is_run_beside_ours(tmp_path):
    """Only its model is imported, because the rest of its package may need what is not here."""
    (tmp_path / "jclip").mkdir()
    (tmp_path / "jclip/__init__.py").write_text("import what_is_not_here\n")
    (tmp_path / "jclip/model.py").write_text(PUBLIC)
    settings = {"batch": 2}
    worker = bench.Worker(
        [sys.executable, "stock_ways", str(tmp_path)], "image", settings, tmp_path
    )
    try:
        (way,) = worker.ways
        assert worker.run(way, tmp_path / "found.npy")["seconds"] > 0
    finally:
        worker.close()
    assert np.load(tmp_path / "found.npy").shape == (2, 3)


def test_the_command_line():
    command = [sys.executable, "-m", "benchmarks.bench", "views", "--images", "1", "--views", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["settings"]["views"] == 2

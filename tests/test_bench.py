"""The benchmarks run, compare like with like and say what they found. Nothing here is timed."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.kit import ROOT
from tools import bench


def last_line(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_views_are_the_same_either_way(capsys):
    found = bench.views(images=2, views=3, side=32, repeats=1)
    assert last_line(capsys) == found
    assert list(found["ways"]) == ["decoded once", "opened for every view"]
    assert found["difference"] == 0  # to the bit: it is the same crop of the same pixels


def test_views_of_a_folder_of_images(tmp_path, capsys):
    for number, size in enumerate([(50, 40), (64, 90)]):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg")
    (tmp_path / "notes.txt").write_text("no image")
    found = bench.views(images=3, views=2, side=16, repeats=1, images_from=tmp_path)
    assert "(40, 50) to (90, 64)" in found["setting"] and found["difference"] == 0
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no images"):
        bench.views(images_from=tmp_path / "empty")


def test_a_batch_is_the_same_as_a_loop(capsys):
    found = bench.mta(images=3, views=4, width=16, classes=5, repeats=1)
    assert last_line(capsys) == found and found["difference"] == 0


def test_medians_leave_the_first_call_out_and_ways_take_turns(monkeypatch):
    clock, calls = iter([0, 10, 20, 21, 30, 33, 40, 42, 50, 53]), []
    monkeypatch.setattr(bench, "perf_counter", lambda: next(clock))
    ways = {"ours": lambda: calls.append("ours"), "theirs": lambda: calls.append("theirs")}
    assert bench.timed(ways, 2) == {"ours": 1.5, "theirs": 3}
    assert calls == ["ours", "theirs"] * 3


def test_the_command_line():
    command = [sys.executable, "tools/bench.py", "mta", "--images", "2", "--repeats", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["benchmark"] == "mta"

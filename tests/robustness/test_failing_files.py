"""Disks and files that fail: one message, no partial file, and the same command goes on."""

import os
import shutil
from pathlib import Path

import pytest

from fewshot.inference.scorer import Scorer
from recipes import clip_fewshot
from tests.helpers.main_job import score, train_config
from tests.robustness.small_training import PROGRAM, command, contents, left_over, run
from weight_files import safe_load


def test_a_full_disk(photos, whole, mounted):
    out = mounted("-t", "tmpfs", "-o", "size=72k", "tmpfs")
    status, message = run(command(photos, out))
    reason = "cannot be written (No space left on device: make room, and the same command goes on)"
    assert status == 1 and message.startswith(f"{PROGRAM}: [Errno 28] {reason}: '{out}/")
    assert message.count("\n") == 1 and not left_over(out)
    checkpoint = out / "scratch/checkpoint.pkl"
    assert not checkpoint.exists() or safe_load(checkpoint)["epochs_done"] > 0
    mounted("-o", "remount,size=16m")
    assert run(command(photos, out)) == (0, "")
    assert contents(out) == contents(whole)


def test_a_full_disk_under_a_result(job, mounted, tmp_path):
    out = mounted("-t", "tmpfs", "-o", "size=4m", "tmpfs")
    small = tmp_path / "images"
    small.mkdir()
    for path in sorted((job / "demo/TestSetB").iterdir())[:5]:
        shutil.copy(path, small)
    fields = {"images": str(small), "cache": tmp_path / "cache"}
    (out / "result.txt").write_text("an older result\n")
    filler = out / "filler"
    size = os.statvfs(out).f_bavail * os.statvfs(out).f_frsize
    filler.write_bytes(bytes(size - 8192))  # a page for the lock, one more for a folder
    with pytest.raises(OSError, match="No space left on device: make room") as caught:
        score(job, out, **fields)
    assert str(caught.value.filename).startswith(f"{out}/")
    assert (out / "result.txt").read_text() == "an older result\n" and not left_over(out)
    filler.unlink()
    assert score(job, out, **fields) == score(job, tmp_path / "unbroken", **fields)


def test_a_read_only_folder(photos, job, refused, mounted):
    mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs")
    out = mounted("-o", "remount,ro")
    reason = "[Errno 30] cannot be written (Read-only file system: name another folder)"
    assert refused(command(photos, out)) == f"{PROGRAM}: {reason}: '{out}'"
    with pytest.raises(OSError, match="Read-only file system: name another folder"):
        score(job, out)


def test_a_training_image_that_vanishes(photos, refused, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    image = tmp_path / "photos/train/red/0.png"
    image.unlink()
    image.symlink_to("gone")  # still listed, and no longer there when it is read
    message = refused(command(tmp_path / "photos", tmp_path / "out"))
    assert message.startswith(f"{PROGRAM}: {image}: ") and "replace this image" in message
    assert not list((tmp_path / "out").rglob("*.pkl"))


def test_a_test_image_that_vanishes_gets_its_line(job, tmp_path, capsys):
    small = tmp_path / "images"
    small.mkdir()
    for path in sorted((job / "demo/TestSetB").iterdir())[:5]:
        shutil.copy(path, small)
    before = score(job, tmp_path / "out", images=str(small))
    gone = sorted(small.iterdir())[2]
    gone.unlink()
    gone.symlink_to("gone")
    lines = score(job, tmp_path / "out", images=str(small))
    assert f"1 image could not be read and was skipped: {gone.name}" in capsys.readouterr().out
    assert len(lines) == 5
    assert {n: s for n, s in lines.items() if n != gone.name}.items() < before.items()


def test_an_image_that_changes_while_it_is_scored(job, tmp_path, monkeypatch):
    small = tmp_path / "images"
    small.mkdir()
    for path in sorted((job / "demo/TestSetB").iterdir())[:3]:
        shutil.copy(path, small)
    real = Scorer.__call__

    def scored(self, names, paths, tick):
        outcome = real(self, names, paths, tick)
        Path(paths[1]).unlink()
        return outcome

    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "__call__", scored)
        with pytest.raises(ValueError, match="changed while it was scored: run again"):
            score(job, tmp_path / "out", images=str(small))
    assert not list((tmp_path / "out/shards").rglob("*.npz"))


def test_a_cache_that_vanishes_between_stages(job, tmp_path):
    folders = {name: tmp_path / name for name in ("parts", "runs", "cache")}
    clip_fewshot.run(train_config(job, until="prompt", **folders))
    shutil.rmtree(folders["cache"])
    clip_fewshot.run(train_config(job, **folders))
    for part in (job / "parts").glob("*.pkl"):
        assert (folders["parts"] / part.name).read_bytes() == part.read_bytes(), part.name

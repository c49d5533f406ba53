"""One run at a time may use a folder, and no lock outlives its owner."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from engine.run_lock import run_lock
from runtime.paths import ROOT

HOLDER = """
import sys
from pathlib import Path
from engine.run_lock import run_lock
with run_lock(*map(Path, sys.argv[1:])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def children():
    """Lets children be stopped or killed: Jittor would end the process that started them."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@pytest.fixture
def hold():
    """hold(folder, ...) starts a process that locks the folders; all are ended afterwards."""
    started = []

    def start(*folders):
        words = [sys.executable, "-c", HOLDER, *(str(folder / ".lock") for folder in folders)]
        process = subprocess.Popen(
            words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "locked\n"
        return process

    yield start
    for process in started:
        process.stdin.close()
        process.stdout.close()
        process.wait()


def test_a_second_run_is_told_the_owner(hold, tmp_path):
    owner = hold(tmp_path / "new/parts", tmp_path / "runs")
    words = rf"^{tmp_path}/runs: in use by `.*-c .*` \(process {owner.pid} of .* on .*, since"
    with pytest.raises(ValueError, match=words), run_lock(tmp_path / "runs/.lock"):
        pass
    with run_lock(tmp_path / "elsewhere/.lock"), run_lock(tmp_path / "runs/.lock.2of3"):
        pass
    owner.stdin.close()
    owner.wait()
    with run_lock(tmp_path / "runs/.lock"):
        pass


def test_nothing_is_left_and_a_link_is_the_same_folder(tmp_path):
    (tmp_path / "link").symlink_to("folder")
    with run_lock(tmp_path / "folder/.lock", tmp_path / "link/.lock"):
        assert os.listdir(tmp_path / "folder") == [".lock"]
        with pytest.raises(ValueError, match="in use by"), run_lock(tmp_path / "link/.lock"):
            pass
    assert os.listdir(tmp_path / "folder") == []


def test_a_killed_owner_holds_nothing(hold, tmp_path):
    owner = hold(tmp_path)
    os.kill(owner.pid, signal.SIGSTOP)  # as if it hung: it still owns the lock
    with pytest.raises(ValueError, match=f"process {owner.pid}"), run_lock(tmp_path / ".lock"):
        pass
    owner.kill()
    owner.wait()
    assert str(owner.pid) in (tmp_path / ".lock").read_text()
    with run_lock(tmp_path / ".lock"):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()


def test_an_owner_that_has_written_nothing_yet(tmp_path):
    with open(tmp_path / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lock = run_lock(tmp_path / ".lock")
        with pytest.raises(ValueError, match="in use by another run"), lock:
            pass


def test_a_lock_file_that_was_removed_while_it_was_opened_is_made_again(tmp_path, monkeypatch):
    real, calls = fcntl.flock, []

    def flock(descriptor, how):
        if not calls:  # its owner ends now
            (tmp_path / ".lock").unlink()
        calls.append(descriptor)
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with run_lock(tmp_path / ".lock"):
        assert len(calls) == 2 and str(os.getpid()) in (tmp_path / ".lock").read_text()


def test_a_file_system_without_locks_is_noted(tmp_path, monkeypatch, capsys):
    def flock(descriptor, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with run_lock(tmp_path / ".lock"):
        pass
    notice = capsys.readouterr().err
    assert notice == (
        f"note: {tmp_path}: no locks there (No locks available): start no second run in it\n"
    )


def test_a_place_that_is_no_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(OSError, match="cannot be written") as caught,
        run_lock(tmp_path / "file/.lock"),
    ):
        pass
    assert caught.value.filename == str(tmp_path / "file")

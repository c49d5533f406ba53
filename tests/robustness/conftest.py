"""Fixtures of the tests of faults: a small training, signals, and file systems that fail."""

import os
import signal
import subprocess

import pytest

import train
from tests.helpers.photos import write_photos
from tests.robustness.small_training import command, run


@pytest.fixture(autouse=True)
def children():
    """Restores SIGCHLD's default, because Jittor ends a process whose child is killed."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of small photos."""
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="session")
def whole(photos, tmp_path_factory):
    """The folder of a training that was not interrupted."""
    out = tmp_path_factory.mktemp("whole")
    status, message = run(command(photos, out))
    assert status == 0, message
    return out


@pytest.fixture
def refused(monkeypatch):
    """refused(words) runs train.py in this process and returns the one line of its refusal."""
    handled = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in handled}

    def refusal(words):
        with pytest.raises(SystemExit) as ended:
            train.main(words[1:])
        assert isinstance(ended.value.code, str) and "\n" not in ended.value.code
        return ended.value.code

    yield refusal
    for number, handler in before.items():
        signal.signal(number, handler or signal.SIG_DFL)


@pytest.fixture
def mounted(tmp_path):
    """mounted(*options) returns a folder that is a file system of its own."""
    folder = tmp_path / "mounted"
    folder.mkdir()

    def mount(*options):
        done = subprocess.run(["mount", *options, folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        return folder

    yield mount
    while os.path.ismount(folder):
        subprocess.run(["umount", folder], check=True)

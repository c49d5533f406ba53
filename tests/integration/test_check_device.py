"""The device check passes on the CPU, and on a GPU if there is one."""

import subprocess
import sys

import jittor as jt
import pytest

from runtime.paths import ROOT


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_all_is_ok(device):
    if device == "cuda" and not jt.has_cuda:
        pytest.skip("needs a CUDA device")
    command = [sys.executable, "-m", "scripts.check_device", "--device", device]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("ALL OK")

"""What this machine and this checkout offer."""

import os
import shutil

import pytest

from kernels import cpu_operator
from runtime.paths import ROOT

PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))


def computes_bf16() -> bool:
    """Whether oneDNN has bf16 here: in the processor, or emulated on AVX-512 (flag 0x20)."""
    return bool(cpu_operator.onednn_isa() & 0x20)


def require_command(command: str, switch: str, packages: str) -> None:
    """Skips the test if a command is missing; fails it if the environment's `switch` is 1."""
    if not shutil.which(command):
        missing = f"no {command} (Debian: {packages})"
        if os.environ.get(switch) == "1":
            pytest.fail(f"{switch}=1, but there is {missing}")
        pytest.skip(missing)

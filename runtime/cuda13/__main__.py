"""Prepares a private copy of Jittor for CUDA 13.

Jittor 1.3.11 does not build against CUDA 13. This command copies the installed Jittor into the
Python environment that runs it (share/jittor-cuda13) and applies the edits of
runtime/cuda13/edits.py. It links NVIDIA's wheels into one toolkit folder and compiles a small
kernel as a check. The installed Jittor stays as it is. Every command of the kit uses the copy on a
machine with a device and a driver for CUDA 13. Compiled for sm_90, not yet run on a GPU.
"""

import sys

from runtime import cuda
from runtime.cuda13 import private_copy
from runtime.cuda13.build import build
from runtime.cuda13.edits import EditError
from runtime.cuda13.toolkit import ToolkitError
from runtime.environment import ensure_environment


def main(arch: str | None = None) -> int:
    """Prepares the copy and returns the exit status.

    Args:
        arch: architecture to compile the check for; by default the device's, or else sm_90
    """
    architecture = arch or next(iter(cuda.find_driver().architectures), "sm_90")
    if private_copy.is_ready():
        print(f"{private_copy.folder()} is ready; remove it to prepare it again.")
        return 0
    try:
        build(architecture)
    except (EditError, ToolkitError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Prepared {private_copy.folder()}; a kernel compiled for {architecture}.")
    print("The first start on a GPU compiles Jittor once more, for a few minutes.")
    return 0


if __name__ == "__main__":
    ensure_environment()
    import tyro

    sys.exit(tyro.cli(main, prog="python -m runtime.cuda13", description=__doc__))

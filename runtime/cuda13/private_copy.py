"""The private copy of Jittor for CUDA 13: its folder, whether it fits, and how to use it.

It holds `site/` (jittor and jittor_utils with the edits of `runtime.cuda13.edits`), `cuda/` (the
toolkit) and a manifest. Jittor names its cache after the path of jittor_utils, so the copy and the
installed Jittor never share compiled files.
"""

import hashlib
import importlib.metadata
import json
import os
import sys
from pathlib import Path

COMMAND = "pip install -r requirements-cuda13.txt && python -m runtime.cuda13"
MANIFEST = "manifest.json"


def folder() -> Path:
    """Returns the copy's folder, in the Python environment that runs the kit."""
    return Path(sys.prefix) / "share/jittor-cuda13"


def nvcc() -> Path:
    """Returns the compiler of the copy's toolkit."""
    return folder() / "cuda/bin/nvcc"


def identity() -> dict[str, str]:
    """Returns what a copy must agree on to be used: Jittor's version and the edits."""
    from runtime.cuda13.edits import EDITS, REMOVED  # most machines have no copy

    edits = hashlib.sha256(repr((EDITS, REMOVED)).encode()).hexdigest()
    return {"jittor": importlib.metadata.version("jittor"), "edits": edits}


def is_ready() -> bool:
    """Returns whether a copy fits the installed Jittor, these edits and the wheels."""
    try:
        manifest = json.loads((folder() / MANIFEST).read_text())
        return identity().items() <= manifest.items() and Path(manifest["nvcc"]).is_file()
    except (OSError, ValueError, KeyError, importlib.metadata.PackageNotFoundError):
        return False


def activate() -> None:
    """Makes the next `import jittor` take the copy. Raises RuntimeError if Jittor is imported."""
    if "jittor" in sys.modules or "jittor_utils" in sys.modules:
        raise RuntimeError("jittor was imported before runtime: put `import runtime` first")
    sys.path.insert(0, str(folder() / "site"))
    os.environ["nvcc_path"] = str(nvcc())
    os.environ.setdefault("nccl_include_path", str(folder() / "cuda/include"))
    os.environ.setdefault("nccl_lib_path", str(folder() / "cuda/lib64"))

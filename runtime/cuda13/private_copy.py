"""The private copy of Jittor for CUDA 13: its folder, whether it fits, and how to build and use it.

It holds `site/` (jittor and jittor_utils with the edits of `runtime.cuda13.edits`), `cuda/` (the
toolkit) and a manifest. Jittor names its cache after the path of jittor_utils, so the copy and the
installed Jittor never share compiled files.
"""

import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
from pathlib import Path

from runtime.cuda13 import toolkit
from runtime.cuda13.edits import EDITS, JITTOR_VERSION, REINSTALL, REMOVED, EditError, apply_edits

COMMAND = f"{toolkit.WHEELS} && python -m runtime.cuda13"
MANIFEST = "manifest.json"


def folder() -> Path:
    """Returns the copy's folder, in the Python environment that runs the kit."""
    return Path(sys.prefix) / "share/jittor-cuda13"


def nvcc() -> Path:
    """Returns the compiler of the copy's toolkit."""
    return folder() / "cuda/bin/nvcc"


def _identity() -> dict[str, str]:
    """Returns what a copy must agree on to be used: Jittor's version and the edits."""
    edits = hashlib.sha256(repr((EDITS, REMOVED)).encode()).hexdigest()
    return {"jittor": importlib.metadata.version("jittor"), "edits": edits}


def is_ready() -> bool:
    """Returns whether a copy fits the installed Jittor, these edits and the wheels."""
    try:
        manifest = json.loads((folder() / MANIFEST).read_text())
        return _identity().items() <= manifest.items() and Path(manifest["nvcc"]).is_file()
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


def _installed_site() -> Path:
    """Returns the folder of the installed Jittor, never of the copy.

    Raises EditError if Jittor is not installed, or in another version.
    """
    try:
        installed = importlib.metadata.distribution("jittor")
    except importlib.metadata.PackageNotFoundError:
        raise EditError(f"jittor is not installed: pip install jittor=={JITTOR_VERSION}") from None
    if installed.version != JITTOR_VERSION:
        raise EditError(f"jittor {installed.version} is installed: {REINSTALL}")
    return Path(str(installed.locate_file("")))


def build(architecture: str) -> None:
    """Builds the copy in a temporary folder, compiles a check for `architecture`, and renames it.

    Raises EditError, toolkit.ToolkitError or OSError; an earlier copy then stays as it was.
    """
    final, site = folder(), _installed_site()
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{os.getpid()}")
    try:
        compiler = toolkit.build(temporary / "cuda")
        for package in ("jittor", "jittor_utils"):
            skip = shutil.ignore_patterns("__pycache__", "test")
            shutil.copytree(site / package, temporary / "site" / package, ignore=skip)
        apply_edits(temporary / "site")
        toolkit.probe(temporary / "cuda", architecture, os.environ.get("cc_path") or "g++")
        manifest = _identity() | {"nvcc": str(compiler), "probed": architecture}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        _replace(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(new: Path, final: Path) -> None:
    """Renames `new` to `final`; an older folder there is moved away first and then deleted."""
    old = new.with_name(new.name + ".old")
    if final.exists():
        final.rename(old)
    new.rename(final)
    shutil.rmtree(old, ignore_errors=True)

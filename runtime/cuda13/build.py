"""Builds the private copy of Jittor for CUDA 13."""

import importlib.metadata
import json
import os
import shutil
from pathlib import Path

from runtime.cuda13 import toolkit
from runtime.cuda13.edits import JITTOR_VERSION, REINSTALL, EditError, apply_edits
from runtime.cuda13.private_copy import MANIFEST, folder, identity


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
        manifest = identity() | {"nvcc": str(compiler), "probed": architecture}
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

"""The versions of packages and code that a run records."""

import platform
import subprocess
from importlib.metadata import version

from runtime.paths import ROOT

PACKAGES = (
    "jittor",
    "numpy",
    "pillow",
    "scikit-learn",
    "instant-clip-tokenizer",
    "onednn-cpu-gomp",
)


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that can change a result."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def commit() -> str:
    """Returns the commit of this checkout, with "+changes" if tracked files differ from it.

    Outside git it is "unknown".
    """
    try:
        head = _git("rev-parse", "HEAD")
        return head + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

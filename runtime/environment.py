"""Makes sure that a command's packages are there: in this Python, or in the kit's `.venv`."""

import importlib.util
import os
import sys
from pathlib import Path

from runtime.paths import ROOT


def ensure_environment(package: str = "jittor") -> None:
    """Returns if the package is installed, or else restarts the command in `.venv`.

    Commands call this before they import a package. Ends the program with the remedy if `.venv`
    has no such package either. package: the rarest of those that the command needs.
    """
    restart_in_venv(package)
    if not importlib.util.find_spec(package):
        sys.exit(
            f"{sys.executable} has no {package}: `pip install -r requirements.txt`, or let "
            "`bash train.sh --demo` set up .venv and run everything once on embedded data"
        )


def restart_in_venv(package: str = "jittor") -> None:
    """Restarts the command in `.venv` if this Python lacks the package and `.venv` is there."""
    python = ROOT / ".venv/bin/python"
    is_ready = importlib.util.find_spec(package) or Path(sys.executable) == python
    if not is_ready and python.exists():
        os.execv(python, [str(python), *sys.orig_argv[1:]])

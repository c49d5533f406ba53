"""Commands call `ensure_environment()` first: the packages must be there, in this Python or in
the kit's own
`.venv`.
"""

import importlib.util
import os
import sys
from pathlib import Path

from runtime.paths import ROOT


def ensure_environment(package: str = "jittor") -> None:
    """Goes on where the package is installed; else restarts the command in `.venv`; else ends it
    with the remedy. package: of those that the command needs, one that others seldom bring.
    """
    switch(package)
    if not importlib.util.find_spec(package):
        sys.exit(
            f"{sys.executable} has no {package}: `pip install -r requirements.txt`, or let "
            "`bash train.sh --demo` set up .venv and run everything once on embedded data"
        )


def switch(package: str = "jittor") -> None:
    """Restarts the command in `.venv` where only that has the package."""
    own = ROOT / ".venv/bin/python"
    there = importlib.util.find_spec(package) or Path(sys.executable) == own
    if not there and own.exists():
        os.execv(own, [str(own), *sys.orig_argv[1:]])

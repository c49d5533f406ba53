"""Entry points call `enter()` first: the packages must be there, in this Python or in the kit's own
`.venv`.
"""

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def enter() -> None:
    """Goes on where Jittor is installed; else restarts the program in `.venv`; else ends it with
    the remedy.
    """
    if importlib.util.find_spec("jittor"):
        return
    own = ROOT / ".venv/bin/python"
    if own.exists() and Path(sys.prefix) != ROOT / ".venv":
        os.execv(own, [str(own), *sys.argv])
    sys.exit(
        f"{sys.executable} has no Jittor: `pip install -r requirements.txt`, or let "
        "`bash train.sh --demo` set up .venv and run everything once on embedded data"
    )

"""Every test runs from the repository's root, with Jittor prepared before its first import."""

import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import runtime  # noqa: E402, F401

with warnings.catch_warnings():
    # Jittor's source holds invalid escapes, which Python reports whenever it compiles that source;
    # everywhere else in the tests a warning is an error.
    warnings.simplefilter("ignore")
    import jittor  # noqa: F401

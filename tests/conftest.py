"""Every test runs from the repository's root, with Jittor prepared before its first import."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import runtime  # noqa: E402, F401

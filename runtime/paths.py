"""Where the kit lies on disk."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

"""Reads weight files of any origin without running code from them."""

from typing import Any

__all__ = ["safe_load"]


def __getattr__(name: str) -> Any:
    """Imports `safe_load` on first use: the doctor must start without NumPy."""
    if name == "safe_load":
        from weight_files.reader import safe_load

        return safe_load
    raise AttributeError(f"module 'weight_files' has no attribute {name!r}")

"""Ground floor: prepares Jittor before its first import. Import this before `jittor`, always."""

from typing import Any

from runtime.prepare import prepare

PREPARED = prepare()


def __getattr__(name: str) -> Any:
    """`runtime.safe_load`, imported when asked for: the doctor must start without NumPy."""
    if name == "safe_load":
        from runtime.weights_file import safe_load

        return safe_load
    raise AttributeError(f"module 'runtime' has no attribute {name!r}")

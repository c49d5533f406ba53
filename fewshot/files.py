"""Writing a file whole or not at all, and printing its name; needs no package."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO]:
    """Yields an open file (mode "w" or "wb") that takes the place of `path` when the block ends.

    Written beside `path` under a temporary name, flushed to the disk, then renamed: a reader sees
    the old content or all of the new. Missing folders are made. An error inside the block leaves
    `path` as it was; a symbolic link stays a link. Text is UTF-8 with "\\n" line ends, and file
    names that are not UTF-8 keep their bytes.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f'{path}: mode is {mode!r}, not "w" or "wb"')
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    text = {"encoding": "utf-8", "errors": "surrogateescape", "newline": "\n"}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = open(temporary, mode.replace("w", "x"), **(text if mode == "w" else {}))
    except OSError as error:
        reason = f"cannot be written ({error.strerror})"
        raise type(error)(error.errno, reason, str(path)) from error
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.filename is None and error.errno is not None:  # a full disk names no file
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def printable(name: str) -> str:
    """`name` as any terminal can print it: bytes that are not UTF-8 become \\udcXX."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")

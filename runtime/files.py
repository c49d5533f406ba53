"""Writes a file whole or not at all, and prints its name; needs no package."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from runtime.distributed import is_main_process

REMEDIES: dict[int | None, str] = {
    errno.ENOSPC: "make room, and the same command goes on",
    errno.EDQUOT: "make room, and the same command goes on",
    errno.EFBIG: "allow larger files, and the same command goes on",
    errno.EROFS: "name another folder",
    errno.EACCES: "name another folder, or become its owner",
    errno.EPERM: "name another folder, or become its owner",
}


def write_error(error: OSError, path: str | Path) -> OSError:
    """Returns the same error with the file that cannot be written and the remedy."""
    reason = error.strerror
    if error.errno in REMEDIES:
        reason = f"{reason}: {REMEDIES[error.errno]}"
    return type(error)(error.errno, f"cannot be written ({reason})", str(path))


@contextmanager
def name_file_in_errors(path: str | Path) -> Iterator[None]:
    """Adds `path` to an error inside the block that names no file, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise write_error(error, path) from error
        raise


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO]:
    """Yields an open file (mode "w" or "wb") that replaces `path` when the block ends.

    The file is written next to `path` under a temporary name, flushed to the disk, then renamed. So
    a reader sees the old content or all of the new. Missing folders are made. An error inside the
    block leaves `path` as it was, and a symbolic link stays a link. Text is UTF-8 with "\\n" line
    ends, and file names that are not UTF-8 keep their bytes. In a run of several processes only the
    main process writes `path`.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f'{path}: mode is {mode!r}, not "w" or "wb"')
    if not is_main_process():
        with TemporaryFile(mode.replace("w", "w+")) as file:  # some formats seek as they write
            yield file
        return
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    text: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": "\n"}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = open(temporary, mode.replace("w", "x"), **(text if mode == "w" else {}))
    except OSError as error:
        raise write_error(error, path) from error
    try:
        with name_file_in_errors(path):
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def printable(name: str) -> str:
    """Returns `name` as any terminal can print it: bytes that are not UTF-8 become \\udcXX."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")

"""One run at a time in a folder: a lock that the kernel lets go when its owner ends, in any way."""

import contextlib
import errno
import fcntl
import getpass
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from runtime.distributed import is_main_process
from runtime.files import naming, refused

# what a network file system answers that has no locks
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@contextlib.contextmanager
def run_lock(*folders: Path, name: str = ".lock") -> Iterator[None]:
    """Holds these folders, which are made where they are missing, against other runs.

    Those that hold them under another `name` are let in. Raises ValueError naming the owner where
    one is in use, OSError where one cannot be written. Of processes that share a run, the first
    holds them for all.
    """
    if not is_main_process():
        yield
        return
    with contextlib.ExitStack() as stack:
        for folder in sorted({Path(os.path.realpath(folder)) for folder in folders}):
            stack.enter_context(_held(folder / name))
        yield


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    with contextlib.ExitStack() as opened:
        while not _taken(descriptor := _opened(path, opened), path):
            opened.close()
        opened.callback(path.unlink, missing_ok=True)
        with naming(path):
            os.ftruncate(descriptor, 0)  # an owner that was killed left its name
            os.write(descriptor, json.dumps(_owner()).encode())
        yield


def _opened(path: Path, closing: contextlib.ExitStack) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise refused(error, path.parent) from error
    closing.callback(os.close, descriptor)
    return descriptor


def _taken(descriptor: int, path: Path) -> bool:
    """Locks the open file; False where its owner took it away meanwhile."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(
            f"{path.parent}: in use by {_said(descriptor)}: wait until it ends, or name another "
            "folder"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        print(
            f"note: {path.parent}: no locks there ({error.strerror}): start no second run in it",
            file=sys.stderr,
        )
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _owner() -> dict[str, str | int]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's number without a name
        user = str(os.getuid())
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "user": user,
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join([sys.executable, *sys.argv]),
    }


def _said(descriptor: int) -> str:
    """What the owner wrote, in words."""
    try:
        owner = json.loads(os.pread(descriptor, 2**16, 0))
        return "`{command}` (process {process} of {user} on {host}, since {started})".format(
            **owner
        )
    except ValueError:  # it is just about to write
        return "another run"

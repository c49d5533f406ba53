"""One run at a time in a folder: a lock that the kernel releases however its owner ends."""

import contextlib
import errno
import getpass
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from runtime.distributed import is_main_process
from runtime.files import name_file_in_errors, write_error

# A network file system without locks answers with one of these.
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
PATIENCE_S = 0.3  # for an owner that is about to end


@contextlib.contextmanager
def run_lock(*files: Path) -> Iterator[None]:
    """Locks these files against other runs inside the block, and makes their folders.

    In a run of several processes the main process locks for all. Raises ValueError naming the
    owner if one is locked, and OSError if its folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        if is_main_process():
            for folder, name in sorted(
                {(os.path.realpath(file.parent), file.name) for file in files}
            ):
                stack.enter_context(_lock(Path(folder, name)))
        yield


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    lock = FileLock(path, timeout=PATIENCE_S, fallback_to_soft=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        remedy = "wait until it ends, or name another folder"
        raise ValueError(f"{path.parent}: in use by {_owner(path)}: {remedy}") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise write_error(error, path.parent) from error
        note = f"no locks there ({error.strerror}): start no second run in it"
        print(f"note: {path.parent}: {note}", file=sys.stderr)
    try:
        with name_file_in_errors(path):
            path.write_text(json.dumps(_this_run()))
        yield
    finally:
        path.unlink(missing_ok=True)  # before the release: afterwards it may be another run's
        lock.release()


def _this_run() -> dict[str, str | int]:
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


def _owner(path: Path) -> str:
    """The owner of a lock in words, from what it wrote into the file."""
    text = "`{command}` (process {process} of {user} on {host}, since {started})"
    try:
        return text.format(**json.loads(path.read_text()))
    except (OSError, ValueError):  # it is about to write, or about to end
        return "another run"

"""Which process of a run this is, where `mpirun -np N` started several; needs no package."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_apart = False


def rank() -> int:
    """This process's number, from 0."""
    return 0 if _apart else int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))


def ranks() -> int:
    """How many processes share the work; 1 without mpirun."""
    return 1 if _apart else int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1"))


def first() -> bool:
    """Whether this is the process that writes results."""
    return rank() == 0


@contextmanager
def apart() -> Iterator[None]:
    """Within, this process works and writes for itself, as if it were the only one."""
    global _apart
    _apart = True
    try:
        yield
    finally:
        _apart = False


def begin() -> None:
    """Leaves the printing to the first process; errors of the others still come through."""
    if not first():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")


def end_all(program: str, message: str) -> None:
    """Ends with a message all processes at once: they may be waiting for this one.

    Does nothing in a run of one process. What fails everywhere is said by the first one alone:
    it ends the others while they hold their breath.
    """
    number = int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
    if "OMPI_COMM_WORLD_SIZE" not in os.environ:
        return
    if number:
        time.sleep(3)
        program = f"{program}, rank {number}"
    print(f"{program}: {message}", file=sys.stderr, flush=True)
    os._exit(1)

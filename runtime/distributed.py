"""One run in several processes, the ranks that `mpirun -np N` starts.

All ranks run the same program on the same files and share the work: images and sentences to encode,
the micro-batches of a training step, the chunks of a test set. Results are combined in the
order of the work, so they do not depend on the number of ranks. The main process alone writes
(`runtime/files.py`) and prints.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_single = False


def rank() -> int:
    """Returns the number of this process, from 0."""
    return 0 if _single else int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))


def world_size() -> int:
    """Returns how many processes share the work; 1 without mpirun."""
    return 1 if _single else int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Returns whether this is the process that writes results."""
    return rank() == 0


@contextmanager
def single_process() -> Iterator[None]:
    """Lets this process compute and write inside the block as if it were the only one."""
    global _single
    _single = True
    try:
        yield
    finally:
        _single = False


def silence_other_ranks() -> None:
    """Leaves the printing to the main process; errors of the others still come through."""
    if not is_main_process():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")


def disable_jittor_averaging() -> None:
    """Keeps Jittor from averaging gradients and batch statistics over ranks by itself.

    It also adds the rank to every seed. Either would make results depend on the number of ranks.
    """
    import jittor as jt

    jt.in_mpi, jt.rank = False, 0


def local_range(total: int, unit: int = 1) -> range:
    """Returns the part of `range(total)` that this rank works on, cut at multiples of `unit`."""
    units = -(-total // unit)
    start, stop = (units * number // world_size() * unit for number in (rank(), rank() + 1))
    return range(min(start, total), min(stop, total))


def all_gather(local_rows: "np.ndarray", total: int, start: int) -> "np.ndarray":
    """Returns the float32 rows [total, ...] of all ranks. Every rank must call it.

    local_rows: the rows of this rank, which begin at row `start`. The values keep their bits,
    because they are sent as integers that are added to zeros.
    """
    if world_size() == 1:
        return local_rows
    import jittor as jt
    import numpy as np

    rows = np.zeros((total, *local_rows.shape[1:]), np.float32)
    rows[start : start + len(local_rows)] = local_rows
    sent = jt.array(rows.view(np.int32))
    return sent.mpi_all_reduce("add").numpy().view(np.float32).reshape(rows.shape)


def barrier() -> None:
    """Returns once all ranks have called it."""
    if world_size() > 1:
        import numpy as np

        all_gather(np.zeros(1, np.float32), 1, 0)


def end_all_ranks(program: str, message: str) -> None:
    """Ends all processes of a run with a message, because the others may wait for this one.

    Does nothing in a run of one process. The main process reports first. If all ranks fail for the
    same reason, the others wait three seconds and are ended before they print.
    """
    number = int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
    if "OMPI_COMM_WORLD_SIZE" not in os.environ:
        return
    if number:
        time.sleep(3)
        program = f"{program}, rank {number}"
    print(f"{program}: {message}", file=sys.stderr, flush=True)
    os._exit(1)

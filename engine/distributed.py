"""One run in several processes, the "ranks" that `mpirun -np N` starts.

All ranks run the same program on the same files, and share out what is much: images and sentences
to encode, a training step's pieces (`engine/micro_batches.py`), the pieces of a test set. What comes
back stands in the order of the work, not of the ranks, so a result does not depend on how many
there are. The first rank alone writes (`runtime/files.py`) and prints.
"""

import jittor as jt
import numpy as np

from runtime.distributed import rank, ranks

# By itself Jittor averages gradients and batch statistics over ranks and adds the rank to every
# seed: results would depend on the number of ranks.
jt.in_mpi, jt.rank = False, 0


def share(total: int, unit: int = 1) -> range:
    """This rank's run of `total` numbers, cut between multiples of `unit`."""
    units = -(-total // unit)
    start, stop = (units * number // ranks() * unit for number in (rank(), rank() + 1))
    return range(min(start, total), min(stop, total))


def gathered(own: np.ndarray, total: int, start: int) -> np.ndarray:
    """Rows[total,...] float32 of all ranks; `own` are this rank's, from row `start` on.

    Bit for bit: they travel as integers that are added to zeros. Every rank must call it.
    """
    if ranks() == 1:
        return own
    rows = np.zeros((total, *own.shape[1:]), np.float32)
    rows[start : start + len(own)] = own
    sent = jt.array(rows.view(np.int32))
    return sent.mpi_all_reduce("add").numpy().view(np.float32).reshape(rows.shape)


def wait() -> None:
    """Returns when all ranks have come here."""
    gathered(np.zeros(1, np.float32), 1, 0)

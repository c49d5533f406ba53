"""A training step over micro-batches: parts of a batch whose gradients are averaged in order.

The number of micro-batches is a setting. It changes results in the last digits, as any other order
of a sum does. The number of ranks that share the micro-batches changes nothing at all.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import jittor as jt
import numpy as np

from engine.device import set_random_state
from runtime.distributed import all_gather, local_range, world_size


@dataclass(frozen=True)
class MicroBatches:
    """Cuts each batch into `count` micro-batches. With one, every rank takes the whole batch.

    Raises ValueError if several processes cannot share `count` equally.
    """

    count: int = 1

    def __post_init__(self):
        if self.count < 1 or self.count > 1 and self.count % world_size():
            raise ValueError(
                f"grad_accum is {self.count}: give 1, or a multiple of the {world_size()} processes"
            )

    @property
    def local(self) -> range:
        """The numbers of this rank's micro-batches."""
        return local_range(self.count) if self.count > 1 else range(1)

    def locate(self, index: int) -> tuple[int, int]:
        """Returns (step, micro-batch) of the `index`-th that this rank sees in an epoch."""
        step, local = divmod(index, len(self.local))
        return step, self.local[local]

    def cut(self, rows: np.ndarray) -> list[np.ndarray]:
        """Returns this rank's micro-batches of a batch's rows[B].

        Raises ValueError if the batch has fewer rows than micro-batches.
        """
        if len(rows) < self.count:
            raise ValueError(
                f"a batch of {len(rows)} rows cannot be cut into {self.count} micro-batches"
            )
        parts = np.array_split(rows, self.count)
        return [parts[number] for number in self.local]

    def weights(self, size: int) -> np.ndarray:
        """Returns each micro-batch's share [count] of a batch of `size` rows, float32."""
        sizes = [len(part) for part in np.array_split(range(size), self.count)]
        return np.array(sizes, np.float32) / np.float32(size)


WHOLE_BATCH = MicroBatches()


class Batches(Protocol):
    """Training data. The batches of an epoch depend on the epoch's number and on nothing else.

    There are `len` batches of `size` rows. An epoch yields this rank's micro-batches of each batch,
    one after the other.
    """

    size: int
    micro_batches: MicroBatches

    def __len__(self) -> int: ...

    def epoch(self, index: int) -> Iterator: ...


def steps(batches: Batches, epoch: int) -> Iterator[list]:
    """Yields this rank's micro-batches of each step of an epoch."""
    rest = batches.epoch(epoch)
    for first in rest:
        yield [first, *(next(rest) for _ in batches.micro_batches.local[1:])]


def train_step(
    step: Callable[[object], dict[str, jt.Var]],
    optimizer: jt.optim.Optimizer,
    module: jt.nn.Module,
    batches: Batches,
    parts: Sequence,
    seeds: tuple[int, ...],
) -> dict[str, jt.Var]:
    """Takes one step of the optimizer from the micro-batches of all ranks.

    step, as in `engine.trainer.fit`, returns means over the rows of one micro-batch.
    parts: this rank's micro-batches of a batch that has `batches.size` rows in all.
    With several micro-batches, the random state is set from `seeds` and the micro-batch's number.
    Batch normalisation sees one micro-batch at a time, and its running statistics are averaged like
    the gradients. Returns the averages of what `step` returns.
    """
    micro_batches = batches.micro_batches
    if micro_batches.count == 1:
        values = step(parts[0])
        optimizer.step(values["loss"])
        return values
    groups = optimizer.param_groups
    learned = [p for group in groups for p in group["params"] if not p.is_stop_grad()]
    statistics = [
        value
        for part in module.modules()
        for value in (getattr(part, "running_mean", None), getattr(part, "running_var", None))
        if isinstance(value, jt.Var)
    ]
    before = [value.numpy() for value in statistics]
    rows = []
    for number, part in zip(micro_batches.local, parts, strict=True):
        set_random_state(*seeds, number)
        for value, array in zip(statistics, before, strict=True):
            value.update(jt.array(array))
        values = step(part)
        changes = [*jt.grad(values["loss"], learned), *statistics, *values.values()]
        rows.append(np.concatenate([value.numpy().ravel() for value in changes]))
    gathered = all_gather(np.stack(rows), micro_batches.count, micro_batches.local.start)
    total = np.zeros(gathered.shape[1], np.float32)
    for row, weight in zip(gathered, micro_batches.weights(batches.size), strict=True):
        total += weight * row
    shapes = [tuple(value.shape) for value in [*learned, *statistics]] + [()] * len(values)
    means = iter(_unpacked(total, shapes))
    gradients = [jt.array(next(means)) for _ in learned]
    for value in statistics:
        value.update(jt.array(next(means)))
    # A loss whose gradients are exactly these, so that every optimizer's own step serves.
    optimizer.step(sum((p * g).sum() for p, g in zip(learned, gradients, strict=True)))
    return {name: jt.array(next(means)) for name in values}


def _unpacked(flat: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> Iterator[np.ndarray]:
    """Yields the arrays of these shapes, which `flat` holds in order; scalars get one axis."""
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])
    for values, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True):
        yield values.reshape(shape or (1,))

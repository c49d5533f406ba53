"""A training step in pieces: equal shares of a batch whose gradients are averaged in their order.

The number of pieces is a setting and changes results in the last digits, as any other order of a
sum does. How many ranks share the pieces out changes nothing at all.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import jittor as jt
import numpy as np

from engine.seeding import set_random_state
from runtime.distributed import all_gather, local_range, world_size


@dataclass(frozen=True)
class MicroBatches:
    """`count` pieces of each batch; with one, every rank does the whole of it."""

    count: int = 1

    def __post_init__(self):
        if self.count < 1 or self.count > 1 and self.count % world_size():
            raise ValueError(
                f"pieces is {self.count}: give 1, or a multiple of the {world_size()} processes"
            )

    @property
    def own(self) -> range:
        """This rank's pieces."""
        return local_range(self.count) if self.count > 1 else range(1)

    def place(self, number: int) -> tuple[int, int]:
        """(step, piece) of the `number`-th piece that this rank sees in an epoch."""
        step, own = divmod(number, len(self.own))
        return step, self.own[own]

    def cut(self, rows: np.ndarray) -> list[np.ndarray]:
        """This rank's pieces of a batch's rows[B]. Raises ValueError for a batch too small."""
        if len(rows) < self.count:
            raise ValueError(f"a batch of {len(rows)} rows cannot be cut into {self.count} pieces")
        cut = np.array_split(rows, self.count)
        return [cut[number] for number in self.own]

    def weights(self, size: int) -> np.ndarray:
        """Each piece's share [count] of a batch of `size` rows, float32."""
        sizes = [len(part) for part in np.array_split(range(size), self.count)]
        return np.array(sizes, np.float32) / np.float32(size)


WHOLE = MicroBatches()


class Batches(Protocol):
    """Training data: the batches of an epoch depend on the epoch's number and nothing else.

    `len` batches of `size` rows, cut into `pieces`; an epoch yields this rank's pieces of each, one
    after the other.
    """

    size: int
    pieces: MicroBatches

    def __len__(self) -> int: ...

    def epoch(self, index: int) -> Iterator: ...


def steps(batches: Batches, epoch: int) -> Iterator[list]:
    """This rank's pieces of each step of an epoch."""
    parts = batches.epoch(epoch)
    for head in parts:
        yield [head, *(next(parts) for _ in batches.pieces.own[1:])]


def advance(
    step: Callable[[object], dict[str, jt.Var]],
    optimizer: jt.optim.Optimizer,
    module: jt.nn.Module,
    batches: Batches,
    parts: Sequence,
    seeds: tuple[int, ...],
) -> dict[str, jt.Var]:
    """One step of the optimiser from `parts`, this rank's pieces of a batch, and everybody else's.

    step, as in `engine.fit`, gives means over a piece's rows, of which a batch has `batches.size`.
    With several pieces the random state is set from `seeds` and the piece's number, and batch
    normalisation sees a piece at a time, its running statistics averaged like the gradients.
    Returns the averages of what `step` gives.
    """
    pieces = batches.pieces
    if pieces.count == 1:
        values = step(parts[0])
        optimizer.step(values["loss"])
        return values
    groups = optimizer.param_groups
    learned = [p for group in groups for p in group["params"] if not p.is_stop_grad()]
    moving = [
        each
        for part in module.modules()
        for each in (getattr(part, "running_mean", None), getattr(part, "running_var", None))
        if isinstance(each, jt.Var)
    ]
    before = [each.numpy() for each in moving]
    own = []
    for number, batch in zip(pieces.own, parts, strict=True):
        set_random_state(*seeds, number)
        for each, value in zip(moving, before, strict=True):
            each.update(jt.array(value))
        values = step(batch)
        found = [*jt.grad(values["loss"], learned), *moving, *values.values()]
        own.append(np.concatenate([each.numpy().ravel() for each in found]))
    rows = all_gather(np.stack(own), pieces.count, pieces.own.start)  # [count, all numbers]
    total = np.zeros(rows.shape[1], np.float32)
    for row, weight in zip(rows, pieces.weights(batches.size), strict=True):
        total += weight * row
    shapes = [tuple(each.shape) for each in [*learned, *moving]] + [()] * len(values)
    means = iter(_unpacked(total, shapes))
    gradients = [jt.array(next(means)) for _ in learned]
    for each in moving:
        each.update(jt.array(next(means)))
    # a loss whose gradients are exactly these: so that every optimiser's own step serves
    optimizer.step(sum((p * g).sum() for p, g in zip(learned, gradients, strict=True)))
    return {name: jt.array(next(means)) for name in values}


def _unpacked(flat: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> Iterator[np.ndarray]:
    """The arrays of these shapes that `flat` holds one after the other; scalars get one axis."""
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])
    for piece, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True):
        yield piece.reshape(shape or (1,))

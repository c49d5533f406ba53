"""Batches of freshly augmented images for the engine.

An image's draw comes from (seed, epoch, its key) alone: order, workers, batch size and ranks change
no image. B images a step, R pixels a side, C classes.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from baselines.datasets.image_sets import ImageSet
from data.decoding import in_order
from engine.batches import ClassDraw, ShuffledBatches
from engine.micro_batches import WHOLE, MicroBatches

Transform = Callable[[Image.Image, np.random.Generator], np.ndarray]
Copies = np.ndarray | tuple[np.ndarray, ...]


def generator(seed: int, epoch: int, key: str) -> np.random.Generator:
    """The source of all draws for the image known by `key` in an epoch."""
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    return np.random.default_rng((seed, epoch, number))


class AugmentedBatches(ShuffledBatches):
    """(images[B,3,R,R], labels[B], rows[B]), shuffled anew each epoch.

    What does not fill a batch waits for the next shuffle; a set smaller than a batch is one batch.
    """

    def __init__(
        self,
        image_set: ImageSet,
        batch_size: int,
        transform: Transform | Sequence[Transform],
        seed: int,
        *,
        copies: int = 1,
        workers: int = 0,
        pieces: MicroBatches = WHOLE,
    ):
        """transform(image, rng) -> [3,R,R]. With `copies` above 1, or with several transforms,
        `images` is a tuple of so many arrays: one draw of each row by each, after one another.

        workers: threads that decode and transform, 0 does it inline. Raises ValueError for an
        empty set or for sizes that do not fit.
        """
        if not len(image_set):
            raise ValueError("the image set is empty: check its folder and its split")
        super().__init__(image_set.labels, batch_size, ClassDraw(0, 1, 1), seed, pieces)
        single = callable(transform)
        self.transforms: tuple[Transform, ...] = (
            (transform,) * copies if callable(transform) else tuple(transform)
        )
        if copies < 1 or not self.transforms or not single and copies != 1:
            raise ValueError(
                f"copies is {copies} of {len(self.transforms)} transforms; it must be 1 or more "
                "of one transform, and 1 of several"
            )
        self.image_set, self.workers = image_set, workers

    def epoch(self, index: int, first: int = 0) -> Iterator[tuple[Copies, np.ndarray, np.ndarray]]:
        """The batches of epoch `index`, from batch number `first` on."""
        shuffled = self._rows(index, np.random.default_rng((self.seed, index)))
        skipped = first * len(self.pieces.own)
        steps = [rows for rows, _, _ in itertools.islice(shuffled, skipped, None)]

        def load(rows: np.ndarray) -> list[list[np.ndarray]]:
            return [self._views(row, index) for row in rows.tolist()]

        # a step is loaded in as many pieces as there are threads
        pieces = [piece for rows in steps for piece in np.array_split(rows, max(1, self.workers))]
        loaded = in_order(load, pieces, self.workers)
        for rows in steps:
            views = [row for _ in range(max(1, self.workers)) for row in next(loaded)]
            arrays = tuple(np.stack(copy) for copy in zip(*views, strict=True))
            images = arrays if len(arrays) > 1 else arrays[0]
            yield images, self.labels[rows], rows

    def _views(self, row: int, epoch: int) -> list[np.ndarray]:
        """Each copy of a row [3,R,R]."""
        rng = generator(self.seed, epoch, self.image_set.keys[row])
        image = self.image_set.image(row)
        return [transform(image, rng) for transform in self.transforms]


class PairedBatches:
    """FixMatch's steps: (labelled weak[B,3,R,R], labels[B], unlabelled weak, unlabelled strong).

    A step holds one labelled batch and `ratio` unlabelled ones, [ratio B,3,R,R]. An epoch goes
    once through the unlabelled images; the labelled ones start anew, shuffled again, as often as
    that takes, and go on in the next epoch where they stood.
    """

    def __init__(self, labelled: AugmentedBatches, unlabelled: AugmentedBatches, ratio: int):
        """labelled gives one copy, unlabelled two: weak and strong. Raises ValueError for others,
        and where there are fewer than `ratio` unlabelled batches.
        """
        copies = len(labelled.transforms), len(unlabelled.transforms)
        if copies != (1, 2):
            raise ValueError(
                f"{copies[0]} labelled and {copies[1]} unlabelled copies; FixMatch takes one "
                "labelled copy and two unlabelled ones, transform=(weak, strong)"
            )
        if not 1 <= ratio <= len(unlabelled):
            raise ValueError(
                f"ratio is {ratio}; with {len(unlabelled)} unlabelled batches an epoch it must lie "
                "within 1 and that number"
            )
        self.labelled, self.unlabelled, self.ratio = labelled, unlabelled, ratio
        self.size, self.pieces = labelled.size, labelled.pieces

    def __len__(self) -> int:
        return len(self.unlabelled) // self.ratio

    def epoch(self, index: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        labelled = self._labelled(index * len(self))
        unlabelled = self.unlabelled.epoch(index)
        count = len(self.labelled.pieces.own)
        for _ in range(len(self)):
            pairs = [next(unlabelled)[0] for _ in range(self.ratio * count)]
            for number in range(count):
                images, labels, _ = next(labelled)
                own = pairs[number::count]
                weak, strong = (np.concatenate(views) for views in zip(*own, strict=True))
                yield images, labels, weak, strong

    def _labelled(self, step: int) -> Iterator[tuple]:
        """The labelled batches from number `step` of the whole training on, without end."""
        epoch, first = divmod(step, len(self.labelled))
        while True:
            yield from self.labelled.epoch(epoch, first)
            epoch, first = epoch + 1, 0

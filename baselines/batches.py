"""Training batches: freshly augmented images, with labels, soft targets, or unlabelled pairs.

The augmentation of an image is drawn from (seed, epoch, its key) alone. So the order, workers,
batch size and ranks change no image. B images per step, R pixels per side, C classes.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from baselines.datasets.image_sets import ImageSet
from baselines.transforms.mixing import cutmix, mixup
from data.decoding import map_in_order
from engine.batches import ClassSampler, ShuffledBatches
from engine.losses import soft_targets
from engine.micro_batches import WHOLE_BATCH, Batches, MicroBatches

Transform = Callable[[Image.Image, np.random.Generator], np.ndarray]
Images = np.ndarray | tuple[np.ndarray, ...]


def image_generator(seed: int, epoch: int, key: str) -> np.random.Generator:
    """Returns the source of all draws for the image with this key in an epoch."""
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    return np.random.default_rng((seed, epoch, number))


class AugmentedBatches(ShuffledBatches):
    """(images[B,3,R,R], labels[B], rows[B]), shuffled again in each epoch.

    Images that do not fill a batch wait for the next shuffle; a set smaller than a batch is one
    batch.
    """

    def __init__(
        self,
        image_set: ImageSet,
        batch_size: int,
        transforms: Sequence[Transform],
        seed: int,
        *,
        workers: int = 0,
        micro_batches: MicroBatches = WHOLE_BATCH,
    ):
        """transforms: each is transform(image, rng) -> [3,R,R]. With several, `images` is a tuple
        with one array for each; an image's draws follow one another in their order.

        workers: threads that decode and transform; 0 works without threads. Raises ValueError for
        an empty set.
        """
        if not len(image_set):
            raise ValueError("the image set is empty: check its folder and its split")
        super().__init__(image_set.labels, batch_size, ClassSampler(0, 1, 1), seed, micro_batches)
        self.image_set, self.transforms, self.workers = image_set, tuple(transforms), workers

    def epoch(self, index: int, first: int = 0) -> Iterator[tuple[Images, np.ndarray, np.ndarray]]:
        """Yields the batches of epoch `index`, from batch number `first` on."""
        shuffled = self._rows(index, np.random.default_rng((self.seed, index)))
        skipped = first * len(self.micro_batches.local)
        steps = [rows for rows, _, _ in itertools.islice(shuffled, skipped, None)]

        def load(rows: np.ndarray) -> list[list[np.ndarray]]:
            return [self._augment(row, index) for row in rows.tolist()]

        # a batch is loaded in as many parts as there are threads
        num_parts = max(1, self.workers)
        parts = [part for rows in steps for part in np.array_split(rows, num_parts)]
        loaded = map_in_order(load, parts, self.workers)
        for rows in steps:
            views = [row for _ in range(num_parts) for row in next(loaded)]
            arrays = tuple(np.stack(view) for view in zip(*views, strict=True))
            yield arrays if len(arrays) > 1 else arrays[0], self.labels[rows], rows

    def _augment(self, row: int, epoch: int) -> list[np.ndarray]:
        """Returns [3,R,R] of a row for each transform."""
        rng = image_generator(self.seed, epoch, self.image_set.keys[row])
        image = self.image_set.image(row)
        return [transform(image, rng) for transform in self.transforms]


class SeededBatches(Batches, Protocol):
    """Batches of (images, labels[B], rows[B]) that are drawn from a seed."""

    seed: int


class SoftTargets:
    """Batches of (images, soft targets[B,C]): smoothed labels, with mixup and CutMix in turn."""

    def __init__(
        self, batches: SeededBatches, classes: int, smoothing: float = 0.0, mix: float = 0.0
    ):
        """mix: alpha of mixup in even steps and of CutMix in odd ones; 0 for neither."""
        self.batches, self.classes, self.smoothing, self.mix = batches, classes, smoothing, mix
        self.size, self.micro_batches = batches.size, batches.micro_batches

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, index: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number, (images, labels, _) in enumerate(self.batches.epoch(index)):
            targets = soft_targets(labels, self.classes, self.smoothing)
            if self.mix:
                step, piece = self.micro_batches.locate(number)
                # numbered over all ranks, so that the draw does not depend on their number
                number = step * self.micro_batches.count + piece
                rng = np.random.default_rng((self.batches.seed, index, number))
                mix = mixup if step % 2 == 0 else cutmix
                images, targets = mix(images, targets, rng, alpha=self.mix)
            yield images, targets


class RepeatedEpochs:
    """Several epochs as one, so that a few images train for as many steps as many images."""

    def __init__(self, batches: Batches, times: int):
        self.batches, self.times = batches, times
        self.size, self.micro_batches = batches.size, batches.micro_batches

    def __len__(self) -> int:
        return self.times * len(self.batches)

    def epoch(self, index: int) -> Iterator:
        for number in range(index * self.times, (index + 1) * self.times):
            yield from self.batches.epoch(number)


class PairedBatches:
    """FixMatch's steps: (labelled weak[B,3,R,R], labels[B], unlabelled weak, unlabelled strong).

    A step holds one labelled batch and `ratio` unlabelled ones, [ratio B,3,R,R]. An epoch goes
    through the unlabelled images once. The labelled images are shuffled again whenever they run
    out, and continue in the next epoch.
    """

    def __init__(self, labelled: AugmentedBatches, unlabelled: AugmentedBatches, ratio: int):
        """labelled: with one transform; unlabelled: with two, weak and strong.

        Raises ValueError for another number of transforms, or fewer than `ratio` unlabelled
        batches.
        """
        counts = len(labelled.transforms), len(unlabelled.transforms)
        if counts != (1, 2):
            both = "{} transforms of labelled and {} of unlabelled images".format(*counts)
            raise ValueError(f"{both}; FixMatch needs one and two (weak, strong)")
        if not 1 <= ratio <= len(unlabelled):
            most = f"{len(unlabelled)}, the number of unlabelled batches per epoch"
            raise ValueError(f"ratio is {ratio}; it must be at least 1 and at most {most}")
        self.labelled, self.unlabelled, self.ratio = labelled, unlabelled, ratio
        self.size, self.micro_batches = labelled.size, labelled.micro_batches

    def __len__(self) -> int:
        return len(self.unlabelled) // self.ratio

    def epoch(self, index: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        labelled = self._labelled_from(index * len(self))
        unlabelled = self.unlabelled.epoch(index)
        count = len(self.labelled.micro_batches.local)
        for _ in range(len(self)):
            views = [next(unlabelled)[0] for _ in range(self.ratio * count)]
            for number in range(count):
                images, labels, _ = next(labelled)
                pairs = zip(*views[number::count], strict=True)
                weak, strong = (np.concatenate(view) for view in pairs)
                yield images, labels, weak, strong

    def _labelled_from(self, step: int) -> Iterator[tuple]:
        """Yields the labelled batches from step `step` of the whole training on, without end."""
        epoch, first = divmod(step, len(self.labelled))
        while True:
            yield from self.labelled.epoch(epoch, first)
            epoch, first = epoch + 1, 0

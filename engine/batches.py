"""The batches of a training step: cached features or freshly cropped images, and their classes.

Everything is drawn from (seed, epoch), so a resumed epoch is the same epoch. Axes: B rows and J
classes per step, N shots, P views, E embedding, K classes, R pixels per side.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data.decoding import BrokenImage, load_images
from data.views import Crops, random_view
from engine.micro_batches import WHOLE_BATCH, MicroBatches
from models.normalize import unit_rows


@dataclass(frozen=True)
class ClassSampler:
    """Draws the classes of a step's softmax: those of the batch and random others, or all.

    The last fifth of the epochs takes all classes, so that training ends on the softmax that is
    tested.
    """

    count: int
    """classes per step, 0 for all"""
    total: int
    """number of classes, K"""
    epochs: int
    """epochs of the training"""

    @property
    def full_from(self) -> int:
        """The first epoch of the last fifth; epochs count from 0."""
        return self.epochs * 4 // 5

    def draw(self, labels: np.ndarray, epoch: int, rng: np.random.Generator) -> np.ndarray:
        """Returns the sorted numbers of `count` classes (or all K), among them those of labels[B].

        Raises ValueError if the batch has more classes than `count`.
        """
        if not 0 < self.count < self.total or epoch >= self.full_from:
            return np.arange(self.total)
        present = np.unique(labels)
        if len(present) > self.count:
            raise ValueError(
                f"one batch has {len(present)} classes, but a step takes {self.count}: "
                "give more classes or a smaller batch_size"
            )
        absent = np.setdiff1d(np.arange(self.total), present)
        drawn = rng.choice(absent, self.count - len(present), replace=False)
        return np.sort(np.concatenate([present, drawn]))


class ShuffledBatches:
    """Cuts shuffled rows into batches of one size; rows left over wait for the next shuffle.

    An epoch yields this rank's micro-batches of each batch, one after the other.
    """

    def __init__(
        self,
        labels: np.ndarray,
        batch_size: int,
        classes: ClassSampler,
        seed: int,
        micro_batches: MicroBatches = WHOLE_BATCH,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be 1 or more")
        self.labels, self.classes, self.seed = np.asarray(labels), classes, seed
        self.size = min(batch_size, len(labels))
        self.micro_batches = micro_batches

    def __len__(self) -> int:
        return len(self.labels) // self.size

    def _rows(self, epoch: int, rng: np.random.Generator) -> Iterator[tuple]:
        """Yields rows[B], targets[B] among the step's classes, and the step's classes[J]."""
        order = rng.permutation(len(self.labels))[: len(self) * self.size]
        for batch in order.reshape(len(self), self.size):
            classes = self.classes.draw(self.labels[batch], epoch, rng)
            for rows in self.micro_batches.cut(batch):
                yield rows, np.searchsorted(classes, self.labels[rows]), classes


class FeatureBatches(ShuffledBatches):
    """Yields features[B,E] of length 1, targets[B] and classes[J]: one random view of each row."""

    def __init__(
        self,
        features: np.ndarray,  # [N,P,E]
        labels: np.ndarray,
        batch_size: int,
        classes: ClassSampler,
        seed: int,
        micro_batches: MicroBatches = WHOLE_BATCH,
    ):
        super().__init__(labels, batch_size, classes, seed, micro_batches)
        self.features = features

    def epoch(self, index: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        rng = np.random.default_rng((self.seed, index))
        view = rng.integers(self.features.shape[1], size=len(self.labels))
        for rows, targets, classes in self._rows(index, rng):
            yield unit_rows(self.features[rows, view[rows]]), targets, classes


class ImageBatches(ShuffledBatches):
    """Yields images[B,3,R,R], targets[B] and classes[J]: a new crop of each image per epoch."""

    def __init__(
        self,
        paths: Sequence[Path],
        labels: np.ndarray,
        batch_size: int,
        classes: ClassSampler,
        seed: int,
        *,
        side: int,
        to_array: Callable[[Image.Image], np.ndarray],
        crops: Crops,
        workers: int,
        micro_batches: MicroBatches = WHOLE_BATCH,
    ):
        """side: R; to_array: turns a crop of R x R pixels into the network's input [3,R,R]."""
        super().__init__(labels, batch_size, classes, seed, micro_batches)
        self.paths, self.side, self.to_array = paths, side, to_array
        self.crops, self.workers = crops, workers

    def epoch(self, index: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        def crop(image):
            return self.to_array(random_view(image, self.side, self.crops, self.seed, index + 1))

        steps = list(self._rows(index, np.random.default_rng((self.seed, index))))
        paths = [self.paths[row] for rows, _, _ in steps for row in rows]
        loaded = load_images(paths, crop, self.workers, batch=self.size)
        for rows, targets, classes in steps:
            found = [next(loaded)[1] for _ in rows]
            images = []
            for image in found:
                if isinstance(image, BrokenImage):
                    raise ValueError(f"a training image cannot be read: {image}")
                images.append(image)
            yield np.stack(images), targets, classes

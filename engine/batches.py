"""What a training step sees: rows of cached features or freshly cropped images, and which classes.

Everything is drawn from (seed, epoch), so a resumed epoch is the same epoch.
B rows and J classes a step, N shots, P views, E embedding, K classes, R pixels a side.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data.decoding import BrokenImage, load_images
from data.views import Crops, random_view
from engine.micro_batches import WHOLE, MicroBatches
from models.normalize import unit_rows


@dataclass(frozen=True)
class ClassDraw:
    """Which classes stand in a step's softmax: the batch's own and random others, or all.

    count: classes a step, 0 for all. total: K. epochs: of the training, whose last fifth takes all
    of them, so that it ends on the very softmax that is tested.
    """

    count: int
    total: int
    epochs: int

    @property
    def full_from(self) -> int:
        """The first epoch of the last fifth, counted from 0."""
        return self.epochs * 4 // 5

    def draw(self, labels: np.ndarray, epoch: int, rng: np.random.Generator) -> np.ndarray:
        """Sorted class numbers, `count` of them (or all K), those of `labels`[B] included."""
        if not 0 < self.count < self.total or epoch >= self.full_from:
            return np.arange(self.total)
        own = np.unique(labels)
        if len(own) > self.count:
            raise ValueError(f"{self.count} classes a step do not hold the {len(own)} of one batch")
        others = np.setdiff1d(np.arange(self.total), own)
        drawn = rng.choice(others, self.count - len(own), replace=False)
        return np.sort(np.concatenate([own, drawn]))


class ShuffledBatches:
    """Shuffled row numbers in batches of one size; what is left over waits for the next shuffle.

    An epoch yields this rank's micro-batches of each batch, one after the other.
    """

    def __init__(
        self,
        labels: np.ndarray,
        batch_size: int,
        classes: ClassDraw,
        seed: int,
        micro_batches: MicroBatches = WHOLE,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be 1 or more")
        self.labels, self.classes, self.seed = np.asarray(labels), classes, seed
        self.size = min(batch_size, len(labels))
        self.micro_batches = micro_batches

    def __len__(self) -> int:
        return len(self.labels) // self.size

    def _rows(self, epoch: int, rng: np.random.Generator) -> Iterator[tuple]:
        """(rows[B], places of their labels among the step's classes[B], the step's classes[J])."""
        order = rng.permutation(len(self.labels))[: len(self) * self.size]
        for batch in order.reshape(len(self), self.size):
            classes = self.classes.draw(self.labels[batch], epoch, rng)
            for rows in self.micro_batches.cut(batch):
                yield rows, np.searchsorted(classes, self.labels[rows]), classes


class FeatureBatches(ShuffledBatches):
    """(features[B,E] of length 1, targets[B], classes[J]): one random view of each row."""

    def __init__(
        self,
        features: np.ndarray,  # [N,P,E]
        labels: np.ndarray,
        batch_size: int,
        classes: ClassDraw,
        seed: int,
        micro_batches: MicroBatches = WHOLE,
    ):
        super().__init__(labels, batch_size, classes, seed, micro_batches)
        self.features = features

    def epoch(self, index: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        rng = np.random.default_rng((self.seed, index))
        view = rng.integers(self.features.shape[1], size=len(self.labels))
        for rows, targets, classes in self._rows(index, rng):
            yield unit_rows(self.features[rows, view[rows]]), targets, classes


class ImageBatches(ShuffledBatches):
    """(images[B,3,R,R], targets[B], classes[J]): a fresh random crop of each image an epoch."""

    def __init__(
        self,
        paths: Sequence[Path],
        labels: np.ndarray,
        batch_size: int,
        classes: ClassDraw,
        seed: int,
        *,
        side: int,
        to_array: Callable[[Image.Image], np.ndarray],
        crops: Crops,
        workers: int,
        micro_batches: MicroBatches = WHOLE,
    ):
        """side: R, pixels; to_array makes a crop of R x R into what the network takes."""
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

"""What a classifier trains on: batches with soft targets, epochs joined, and the step itself."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import jittor as jt
import numpy as np

from baselines.transforms.mixing import cutmix, mixup
from engine.losses import soft_cross_entropy, soft_targets
from engine.micro_batches import Batches


class SeededBatches(Batches, Protocol):
    """Batches that are drawn from a seed."""

    seed: int


class Targets:
    """Batches of (images, soft targets[B,C]): smoothed labels, and mixup or CutMix by turns."""

    def __init__(
        self, batches: SeededBatches, classes: int, smoothing: float = 0.0, mix: float = 0.0
    ):
        """batches: of (images, labels[B], anything). mix: alpha of mixup; every other step takes
        CutMix instead. 0 for neither.
        """
        self.batches, self.classes, self.smoothing, self.mix = batches, classes, smoothing, mix
        self.size, self.pieces = batches.size, batches.pieces

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, index: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number, (images, labels, _) in enumerate(self.batches.epoch(index)):
            targets = soft_targets(labels, self.classes, self.smoothing)
            if self.mix:
                step, piece = self.pieces.place(number)
                number = step * self.pieces.count + piece  # of all ranks' pieces
                rng = np.random.default_rng((self.batches.seed, index, number))
                way = mixup if step % 2 == 0 else cutmix
                images, targets = way(images, targets, rng, alpha=self.mix)
            yield images, targets


class Repeated:
    """Several epochs of batches as one: so that few images train for as many steps as many."""

    def __init__(self, batches: Batches, times: int):
        self.batches, self.times, self.size = batches, times, batches.size
        self.pieces = batches.pieces

    def __len__(self) -> int:
        return self.times * len(self.batches)

    def epoch(self, index: int) -> Iterator:
        for number in range(index * self.times, (index + 1) * self.times):
            yield from self.batches.epoch(number)


def classify(module: jt.nn.Module) -> Callable[[Sequence], dict[str, jt.Var]]:
    """A training step on batches of (images, soft targets)."""

    def step(batch: Sequence) -> dict[str, jt.Var]:
        images, targets = (jt.array(each) for each in batch)
        logits = module(images)
        hits = (logits.argmax(dim=1)[0] == targets.argmax(dim=1)[0]).float32()
        return {"loss": soft_cross_entropy(logits, targets), "accuracy": hits.mean()}

    return step

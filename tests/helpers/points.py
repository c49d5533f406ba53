"""Training data that any model learns, for tests of training."""

import numpy as np

from engine.micro_batches import WHOLE_BATCH


class Points:
    """Batches from two noisy clusters; an epoch's order depends on its number."""

    size, micro_batches = 16, WHOLE_BATCH

    def __len__(self):
        return 5

    def epoch(self, index):
        random = np.random.default_rng((7, index))
        for _ in range(5):
            labels = random.integers(0, 2, 16)
            yield random.normal(labels[:, None] * 3, 1, (16, 4)).astype(np.float32), labels

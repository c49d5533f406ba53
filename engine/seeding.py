"""Jittor's source of random numbers."""

import jittor as jt
import numpy as np


def set_random_state(*numbers: int) -> None:
    """Sets Jittor's random state from these numbers.

    They are hashed first, because Jittor draws the same numbers after the seeds 0 and 1.
    """
    jt.set_global_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0] >> 1))

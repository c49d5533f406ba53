"""Learning rates as pure functions of the step: nothing to save, nothing to run an epoch late.

Jittor's own schedulers run an epoch behind and keep no state, so they are not used.
"""

import math
from collections.abc import Callable

Rates = Callable[[int], float]  # step, from 0 -> learning rate of that step


def cosine(lr: float, steps: int, *, warmup: int = 0, final: float = 0.0) -> Rates:
    """Half a cosine from `lr` at the end of the warm-up to `final` at step `steps` (SGDR, eq. 5,
    one period).

    The warm-up rises linearly over `warmup` steps and gives its first step `lr / warmup`, never
    zero.
    """
    if not 0 <= warmup <= max(0, steps - 1):  # no steps need no warm-up
        raise ValueError(f"warm-up of {warmup} steps does not fit into {steps} steps")

    def rate(step: int) -> float:
        if step < warmup:
            return lr * (step + 1) / warmup
        done = min(1.0, (step - warmup) / (steps - warmup))
        return final + 0.5 * (lr - final) * (1 + math.cos(math.pi * done))

    return rate


def warm_cosine(
    lr: float, epochs: int, steps: int, final: float = 0.0, warmup: int | None = None
) -> Rates:
    """`cosine` over epochs of `steps` each, warmed up over `warmup` of them, by default over the
    first one if there are more.
    """
    warmup = int(epochs > 1) if warmup is None else warmup
    return cosine(lr, epochs * steps, warmup=warmup * steps, final=final)

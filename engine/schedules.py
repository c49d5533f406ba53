"""Learning rates as pure functions of the step, so a resumed run needs no saved state.

Jittor's own schedulers keep no state and run one epoch late, so they are not used.
"""

import math
from collections.abc import Callable

Schedule = Callable[[int], float]  # step, from 0 -> learning rate of that step


def cosine_schedule(lr: float, steps: int, *, warmup: int = 0, final: float = 0.0) -> Schedule:
    """Returns half a cosine from `lr` to `final`, after a linear warm-up (SGDR, eq. 5, one period).

    The rate reaches `lr` at the end of the `warmup` steps and `final` at step `steps`. The first
    step of the warm-up has `lr / warmup`, never zero.
    Raises ValueError if the warm-up does not fit.
    """
    if not 0 <= warmup <= max(0, steps - 1):  # no steps need no warm-up
        raise ValueError(f"warm-up of {warmup} steps does not fit into {steps} steps")

    def rate(step: int) -> float:
        if step < warmup:
            return lr * (step + 1) / warmup
        done = min(1.0, (step - warmup) / (steps - warmup))
        return final + 0.5 * (lr - final) * (1 + math.cos(math.pi * done))

    return rate


def warmup_cosine(
    lr: float, epochs: int, steps: int, final: float = 0.0, warmup: int | None = None
) -> Schedule:
    """Returns `cosine_schedule` over epochs of `steps` each.

    warmup: epochs of warm-up; by default one, or none if there is only one epoch.
    """
    if warmup is None:
        warmup = 1 if epochs > 1 else 0
    return cosine_schedule(lr, epochs * steps, warmup=warmup * steps, final=final)

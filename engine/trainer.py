"""The loops. They know no method by name: a recipe passes a closure.

`fit` owns the train/eval switches, the schedule, the step (`train_step` in
`engine/micro_batches.py`), the
check for a loss that is not finite, metrics, checkpoints, resume and the progress bar. `predict`
runs a forward over batches of one fixed shape, `Predictor` the same with its inputs handed in.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jittor as jt
import numpy as np
from tqdm import tqdm

from engine import checkpoint
from engine.micro_batches import Batches, steps, train_step
from engine.run_log import Run
from engine.schedules import Rates
from engine.seeding import set_random_state
from runtime.distributed import barrier
from runtime.signals import check_stop, report_progress_on_stop
from weight_files import safe_load

CHECK_EVERY = 20  # steps between looks at the loss: each look waits for the device


class NonFiniteLoss(ArithmeticError):
    """The loss became NaN or infinite; the last checkpoint is from before."""


def fit(
    step: Callable[[Any], dict[str, jt.Var]],
    optimizer: jt.optim.Optimizer,
    batches: Batches,
    *,
    module: jt.nn.Module,
    epochs: int,
    schedule: Rates,
    run: Run,
    seed: int,
    after_step: Callable[[], None] = lambda: None,
    after_epoch: Callable[[int], dict[str, float] | None] = lambda epoch: None,
) -> dict[str, float]:
    """Trains `module` for `epochs`, from the run's checkpoint where there is one.

    step(batch) returns {"loss": scalar, name: scalar, ...}; every entry's mean is logged each
    epoch. schedule(step) gives the rate; a parameter group with a "share" takes that share of it.
    after_step() and after_epoch(number from 1) may change `module` further, the latter may add
    metrics to the epoch's. A checkpoint is written after each epoch, and the random state is set
    from (seed, epoch), so that a stopped and resumed run ends in the same bytes as an unbroken one.
    A run that is asked to stop does so between two steps and loses the epoch's: Jittor's random
    state can be set, not read, so only an epoch's start can be gone back to.
    Returns the last epoch's metrics.
    """
    first = _resume(module, optimizer, run, seed)
    barrier()  # before the first rank writes a newer checkpoint
    run.rewind(first)
    module.train()
    advance_by = partial(train_step, step, optimizer, module, batches)

    def update(parts: list, seeds: tuple[int, ...]) -> dict[str, jt.Var]:
        values = advance_by(parts, seeds)
        after_step()
        return values

    with contextlib.closing(run):
        for epoch in range(first, epochs):
            with report_progress_on_stop(f"epoch {epoch} of {epochs} of {run.name}"):
                set_random_state(seed, epoch)
                name = f"{run.name} epoch {epoch + 1}/{epochs}"
                started = time.monotonic()
                metrics = _pass(update, optimizer, batches, schedule, (seed, epoch), name)
                metrics |= {"lr": optimizer.lr} | (after_epoch(epoch + 1) or {})
                run.log(epoch, metrics)
                shown = ", ".join(f"{key} {value:.4g}" for key, value in metrics.items())
                print(f"{name}: {shown}, {time.monotonic() - started:.1f} s", flush=True)
                _save(module, optimizer, run, epoch + 1, seed)
    barrier()  # until all is written
    module.eval()
    return run.last()


def _pass(
    update: Callable,
    optimizer: jt.optim.Optimizer,
    batches: Batches,
    schedule: Rates,
    seeds: tuple[int, int],
    name: str,
) -> dict[str, float]:
    """The steps of an epoch, seeds[1]; returns the means of what they returned."""
    history, epoch = _Means(), seeds[1]
    bar = tqdm(
        steps(batches, epoch),
        total=len(batches),
        desc=name,
        leave=False,
        disable=None,  # not where the output is no terminal
    )
    for index, parts in enumerate(bar):
        check_stop()
        _set_rate(optimizer, schedule(epoch * len(batches) + index))
        history.add(update(parts, (*seeds, index)))
        if (index + 1) % CHECK_EVERY == 0:
            bar.set_postfix(loss=f"{history.check(epoch):.4f}")
    history.check(epoch)
    return history.means()


@contextlib.contextmanager
def evaluating(module: jt.nn.Module) -> Iterator[None]:
    """Evaluation mode within. Unlike `module.eval()` it touches no parameter: that one stops all
    gradients, and `train()` then wakes up what was frozen in between.
    """
    parts = [(part, part.is_training()) for part in module.modules()]
    for part, _ in parts:
        part.is_train = False
    try:
        yield
    finally:
        for part, training in parts:
            part.is_train = training


def _set_rate(optimizer: jt.optim.Optimizer, rate: float) -> None:
    optimizer.lr = rate
    for group in optimizer.param_groups:
        if "share" in group:
            group["lr"] = rate * group["share"]


class _Means:
    """Collects each step's scalars on the device and fetches them in one go."""

    def __init__(self) -> None:
        self._pending: list[dict[str, jt.Var]] = []
        self._fetched: dict[str, list[float]] = {}

    def add(self, values: dict[str, jt.Var]) -> None:
        self._pending.append({name: value.stop_grad() for name, value in values.items()})

    def check(self, epoch: int) -> float:
        """Fetches what is pending; returns the newest loss. Raises NonFiniteLoss."""
        for values in self._pending:
            for name, value in values.items():
                self._fetched.setdefault(name, []).append(float(value.item()))
        self._pending.clear()
        losses = self._fetched["loss"]
        bad = np.flatnonzero(~np.isfinite(losses))
        if bad.size:
            raise NonFiniteLoss(
                f"the loss is {losses[bad[0]]} at epoch {epoch + 1}, step {bad[0] + 1}: "
                "lower the learning rate"
            )
        return losses[-1]

    def means(self) -> dict[str, float]:
        return {name: float(np.mean(values)) for name, values in self._fetched.items()}


def _save(module, optimizer, run: Run, epochs_done: int, seed: int) -> None:
    contents = {
        "epochs_done": epochs_done,
        "seed": seed,
        "config": run.config,
        "module": checkpoint.module_arrays(module),
        "optimizer": checkpoint.optimizer_arrays(optimizer),
    }
    checkpoint.save(run.checkpoint, contents)


def _resume(module, optimizer, run: Run, seed: int) -> int:
    """Restores the run's checkpoint; returns the number of epochs that it holds. Raises ValueError
    where it is damaged.
    """
    if not run.checkpoint.exists():
        return 0
    try:
        saved = safe_load(run.checkpoint)
    except ValueError as error:
        raise ValueError(f"{error}; delete it and run again") from error
    if saved["config"] != run.config or saved["seed"] != seed:
        return 0
    checkpoint.restore_module(module, saved["module"], run.checkpoint)
    checkpoint.restore_optimizer(optimizer, saved["optimizer"])
    jt.sync_all(True)  # pending, they would be fused into the first step and round otherwise
    return saved["epochs_done"]

"""The training loop. It knows no method by name: a recipe passes a closure for the step."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jittor as jt
import numpy as np
from tqdm import tqdm

from engine import checkpoint
from engine.device import set_random_state
from engine.micro_batches import Batches, steps, train_step
from engine.run_log import Run
from engine.schedules import Schedule
from runtime.distributed import barrier
from runtime.signals import check_stop, report_progress_on_stop
from weight_files import safe_load

CHECK_EVERY = 20  # steps between two checks of the loss; each check waits for the device


class NonFiniteLoss(ArithmeticError):
    """The loss became NaN or infinite; the last checkpoint is from before."""


def fit(
    step: Callable[[Any], dict[str, jt.Var]],
    optimizer: jt.optim.Optimizer,
    batches: Batches,
    *,
    module: jt.nn.Module,
    epochs: int,
    schedule: Schedule,
    run: Run,
    seed: int,
    after_step: Callable[[], None] = lambda: None,
    after_epoch: Callable[[int], dict[str, float] | None] = lambda epoch: None,
) -> dict[str, float]:
    """Trains `module` for `epochs`, from the run's checkpoint if there is one.

    step(batch) returns {"loss": scalar, name: scalar, ...}. The mean of each entry is logged once
    per epoch. schedule(step) gives the learning rate; a parameter group with a "share" gets that
    share of it. after_step() and after_epoch(number from 1) may change `module` further, and
    after_epoch may return more metrics.

    A checkpoint is written after each epoch, and (seed, epoch) sets the random state. So a run that
    was stopped and continued ends in the same bytes as an unbroken one. A signal stops a run
    between two steps and loses the steps of that epoch. Jittor's random state can be set but not
    read, so a run continues from the start of an epoch only.

    Returns the metrics of the last epoch. Raises NonFiniteLoss.
    """
    first = _resume(module, optimizer, run, seed)
    barrier()  # before the main process writes a newer checkpoint
    run.rewind(first)
    module.train()

    def update(parts: list, seeds: tuple[int, ...]) -> dict[str, jt.Var]:
        values = train_step(step, optimizer, module, batches, parts, seeds)
        after_step()
        return values

    with contextlib.closing(run):
        for epoch in range(first, epochs):
            with report_progress_on_stop(f"epoch {epoch} of {epochs} of {run.name}"):
                set_random_state(seed, epoch)
                name = f"{run.name} epoch {epoch + 1}/{epochs}"
                started = time.monotonic()
                metrics = _train_epoch(update, optimizer, batches, schedule, (seed, epoch), name)
                metrics |= {"lr": optimizer.lr} | (after_epoch(epoch + 1) or {})
                run.log(epoch, metrics)
                texts = ", ".join(f"{key} {value:.4g}" for key, value in metrics.items())
                print(f"{name}: {texts}, {time.monotonic() - started:.1f} s", flush=True)
                _save(module, optimizer, run, epoch + 1, seed)
    barrier()  # until all is written
    module.eval()
    return run.last()


def _train_epoch(
    update: Callable[[list, tuple[int, ...]], dict[str, jt.Var]],
    optimizer: jt.optim.Optimizer,
    batches: Batches,
    schedule: Schedule,
    seeds: tuple[int, int],
    name: str,
) -> dict[str, float]:
    """Runs the steps of one epoch, and returns the mean of each value that `update` returned.

    seeds: the run's seed and the number of the epoch, from 0.
    """
    means = _Means()
    _, epoch = seeds
    bar = tqdm(
        steps(batches, epoch),
        total=len(batches),
        desc=name,
        leave=False,
        disable=None,  # no bar if the output is no terminal
    )
    for index, parts in enumerate(bar):
        check_stop()
        _set_rate(optimizer, schedule(epoch * len(batches) + index))
        means.add(update(parts, (*seeds, index)))
        if (index + 1) % CHECK_EVERY == 0:
            bar.set_postfix(loss=f"{means.check(epoch):.4f}")
    means.check(epoch)
    return means.result()


@contextlib.contextmanager
def evaluation_mode(module: jt.nn.Module) -> Iterator[None]:
    """Sets a module to evaluation mode inside the block.

    Unlike `module.eval()` it changes no parameter. That method stops all gradients, and `train()`
    afterwards starts those of frozen parameters too.
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
    """Collects the scalars of each step on the device, and fetches many of them at once."""

    def __init__(self) -> None:
        self._pending: list[dict[str, jt.Var]] = []
        self._fetched: dict[str, list[float]] = {}

    def add(self, values: dict[str, jt.Var]) -> None:
        self._pending.append({name: value.stop_grad() for name, value in values.items()})

    def check(self, epoch: int) -> float:
        """Fetches the pending values and returns the newest loss. Raises NonFiniteLoss."""
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

    def result(self) -> dict[str, float]:
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
    """Restores the run's checkpoint and returns the number of its epochs.

    Returns 0 without a checkpoint, and for one of another configuration or seed. Raises ValueError
    if it is damaged.
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
    jt.sync_all(True)  # else they are fused into the first step, which then rounds differently
    return saved["epochs_done"]

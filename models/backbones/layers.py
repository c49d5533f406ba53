"""Layers that the image networks share: batch norm as in torch, stochastic depth, initial values.

A layer whose `frozen` is True works as in evaluation, whatever `train()` says.
Shapes: B images, D channels.
"""

from collections.abc import Callable

import jittor as jt
import numpy as np
from jittor import nn

Rule = tuple[str, float] | None  # ("normal", deviation), ("uniform", bound), or None: unchanged


class BatchNorm(nn.BatchNorm):
    """Batch norm of [B, D, ...] whose running variance is the unbiased one, as in torch.

    Jittor's own keeps the biased variance. Raises ValueError in training on one value per channel.
    """

    frozen = False

    def execute(self, x: jt.Var) -> jt.Var:
        if self.frozen or not self.is_train:
            return nn.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        dims = [0, *range(2, x.ndim)]
        mean, square = x.mean(dims=dims), (x * x).mean(dims=dims)  # [D]
        count = x.numel() // x.shape[1]
        if count < 2:
            raise ValueError(f"batch norm cannot train on one value per channel: {tuple(x.shape)}")
        variance = (square - mean * mean).maximum(0.0)
        scale = self.weight / jt.sqrt(variance + self.eps)
        shift = self.bias - mean * scale
        self._update_running(self.running_mean, mean)
        self._update_running(self.running_var, variance * (count / (count - 1)))
        return x * scale.broadcast(x, dims) + shift.broadcast(x, dims)

    def _update_running(self, running: jt.Var, value: jt.Var) -> None:
        running.update(running + (value.detach() - running) * self.momentum)


class DropPath(jt.Module):
    """In training, zeroes whole images with `probability` and scales up the others: [B, ...].

    Source: stochastic depth (Huang et al. 2016, https://arxiv.org/abs/1603.09382).
    """

    frozen = False

    def __init__(self, probability: float):
        if not 0 <= probability < 1:
            raise ValueError(f"drop_path {probability} is not in [0, 1)")
        self.probability = probability

    def execute(self, x: jt.Var) -> jt.Var:
        if self.frozen or not self.is_training() or self.probability == 0:
            return x
        is_kept = jt.random((x.shape[0],) + (1,) * (x.ndim - 1)) >= self.probability
        return x * (is_kept.float32() / (1 - self.probability))


def initialise(module: jt.Module, rule: Callable[[str, tuple[int, ...]], Rule]) -> None:
    """Draws the initial values of a new module's parameters as rule(name, shape) says.

    They are drawn with NumPy, from a seed taken from its global generator, which
    `jt.set_global_seed` sets. The same seed gives the same bytes on every device.
    """
    random = np.random.default_rng(np.random.randint(2**31))
    for name, parameter in module.named_parameters():
        shape = tuple(parameter.shape)
        kind, size = rule(name, shape) or (None, 0.0)
        if kind == "normal":
            value = random.standard_normal(shape, dtype=np.float32)
        elif kind == "uniform":
            value = random.random(shape, dtype=np.float32) * 2 - 1
        else:
            continue
        parameter.update(jt.array(value * np.float32(size)))


def is_running_statistic(name: str) -> bool:
    """Returns whether a parameter is a running statistic, which Jittor counts as a parameter."""
    return name.endswith((".running_mean", ".running_var"))

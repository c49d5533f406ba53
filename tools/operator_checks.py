"""The kit's own operators against NumPy in float64, for `tools/check_device.py`."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import jittor as jt
import numpy as np

from runtime import attention, cpu_operator, product
from tools.checks import BFLOAT16, FLOAT32, Check, draw, softmax


def own(cuda: bool) -> Iterator[Check]:
    """The kit's operators: on a GPU those of `--precision bf16`."""
    for name, length, causal in (("attention", 50, False), ("causal attention", 77, True)):
        qkv, dy = draw(4, length, 3 * 128), draw(4, length, 128, seed=1)
        both = attention_in_float64(qkv.astype(np.float64), dy.astype(np.float64), causal)
        yield Check(f"fused {name}", partial(fused_attention, cuda, qkv, dy, causal), both, FLOAT32)
    if cuda:
        x, weight = draw(3, 50, 96), draw(64, 96, seed=1)
        exact = x.astype(np.float64) @ weight.T
        yield Check("frozen layer bfloat16", partial(frozen_layer, x, weight), exact, BFLOAT16)


def fused_attention(cuda: bool, qkv: np.ndarray, dy: np.ndarray, causal: bool) -> jt.Var:
    """Result and gradient of two heads of 64 side by side, [N,L,4D]."""
    var = jt.array(qkv)
    with asked("bf16" if cuda else "fp32"):
        assert attention.fits(var, 2), "the operator does not take this"
        y = attention.attention(var, 2, causal)
        slopes = jt.grad((y * jt.array(dy)).sum(), var)
        return jt.concat([y, slopes], dim=2)


def attention_in_float64(qkv: np.ndarray, dy: np.ndarray, causal: bool) -> np.ndarray:
    """What `fused_attention` is to find."""
    parts, gradients = [], []
    for first in (0, 64):
        q, k, v = (qkv[:, :, i + first : i + first + 64] for i in (0, 128, 256))
        g = dy[:, :, first : first + 64]
        hidden = np.triu(np.full((q.shape[1],) * 2, -1e9), 1) if causal else 0
        weights = softmax(q @ k.swapaxes(1, 2) / 8 + hidden)
        slopes = g @ v.swapaxes(1, 2)
        slopes = weights * (slopes - (weights * slopes).sum(-1, keepdims=True)) / 8
        parts.append(weights @ v)
        gradients.append((slopes @ k, slopes.swapaxes(1, 2) @ q, weights.swapaxes(1, 2) @ g))
    return np.concatenate([*parts, *(pair[i] for i in range(3) for pair in gradients)], axis=2)


def frozen_layer(x: np.ndarray, weight: np.ndarray) -> jt.Var:
    with asked("bf16"):
        kept, frozen = product.Weights(), jt.array(weight).stop_grad()
        assert product.fits_gpu(jt.array(x), frozen), "the operator does not take this"
        return product.on_gpu(kept, jt.array(x), frozen)


@contextmanager
def asked(precision: str) -> Iterator[None]:
    """Within, `--precision` is this."""
    before, cpu_operator.precision = cpu_operator.precision, precision
    try:
        yield
    finally:
        cpu_operator.precision = before

"""The kit's own operators against NumPy in float64, for `scripts/check_device.py`."""

from collections.abc import Iterator
from functools import partial

import jittor as jt
import numpy as np

from engine.device import use_precision
from kernels import attention
from kernels.linear import PackedWeights, fits_gpu, linear_on_gpu
from scripts.checks import BFLOAT16, FLOAT32, Check, draw, softmax


def own(cuda: bool) -> Iterator[Check]:
    """The kit's operators: on a GPU those of `--precision bf16`."""
    for name, length, causal in (("attention", 50, False), ("causal attention", 77, True)):
        qkv, dy = draw(4, length, 3 * 128), draw(4, length, 128, seed=1)
        both = np.concatenate(attention_in_float64(qkv, dy, 2, causal), axis=2)
        yield Check(f"fused {name}", partial(fused_attention, cuda, qkv, dy, causal), both, FLOAT32)
    if cuda:
        x, weight = draw(3, 50, 96), draw(64, 96, seed=1)
        exact = x.astype(np.float64) @ weight.T
        yield Check("frozen layer bfloat16", partial(frozen_layer, x, weight), exact, BFLOAT16)


def fused_attention(cuda: bool, qkv: np.ndarray, dy: np.ndarray, causal: bool) -> jt.Var:
    """Result and gradient of two heads of 64 side by side, [N,L,4D]."""
    var = jt.array(qkv)
    with use_precision("bf16" if cuda else "fp32"):
        assert attention.fits(var, 2), "the operator does not take this"
        y = attention.fused_attention(var, 2, causal)
        slopes = jt.grad((y * jt.array(dy)).sum(), var)
        return jt.concat([y, slopes], dim=2)


def attention_in_float64(
    qkv: np.ndarray, dy: np.ndarray, heads: int, causal: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(result[N,L,D], gradient[N,L,3D] of sum(result dy)) by the definition."""
    n, length, packed = qkv.shape
    parts = qkv.astype(float).reshape(n, length, 3, heads, packed // 3 // heads)
    q, k, v = parts.transpose(2, 0, 3, 1, 4)  # [N,H,L,D/H] each
    dy = dy.astype(float).reshape(n, length, heads, -1).transpose(0, 2, 1, 3)
    scale = q.shape[-1] ** -0.5
    scores = q @ k.swapaxes(-1, -2) * scale
    if causal:
        scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
    p = softmax(scores)
    dp = dy @ v.swapaxes(-1, -2)
    ds = p * (dp - (dp * p).sum(-1, keepdims=True)) * scale
    gradients = np.stack([ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ dy])

    def rows(heads_first: np.ndarray) -> np.ndarray:
        return heads_first.transpose(0, 2, 1, 3).reshape(n, length, -1)

    return rows(p @ v), np.concatenate([rows(each) for each in gradients], axis=-1)


def frozen_layer(x: np.ndarray, weight: np.ndarray) -> jt.Var:
    with use_precision("bf16"):
        packed, frozen = PackedWeights(), jt.array(weight).stop_grad()
        assert fits_gpu(jt.array(x), frozen), "the operator does not take this"
        return linear_on_gpu(packed, jt.array(x), frozen)

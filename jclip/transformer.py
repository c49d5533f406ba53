"""The residual attention blocks of CLIP's text tower and of its ViT.

Names and arithmetic follow CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020).
Shapes: N sequences (images or sentences), L tokens, D width, H heads.
"""

import jittor as jt
import numpy as np
from jittor import nn

from kernels import attention
from kernels import layer_norm as norm
from kernels import linear as product

MASKED = -1e30  # finite, so that no NaN can arise of it; its softmax weight is exactly 0


def quick_gelu(x: jt.Var) -> jt.Var:
    """The activation of OpenAI's weights."""
    return x * jt.sigmoid(1.702 * x)


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": nn.gelu}


def split_heads(x: jt.Var, heads: int) -> jt.Var:
    """[N, L, D] -> [N*H, L, D/H]."""
    n, length, width = x.shape
    x = x.reshape(n, length, heads, width // heads).permute(0, 2, 1, 3)
    return x.reshape(n * heads, length, width // heads)


def attend(query: jt.Var, key: jt.Var, value: jt.Var, heads: int, causal: bool = False) -> jt.Var:
    """Attention of several heads: query [N, Q, D], key and value [N, L, D] -> [N, Q, D].

    `causal` hides from each token those after it.
    """
    n, queries, width = query.shape
    q, k, v = (split_heads(x, heads) for x in (query, key, value))
    scores = nn.bmm_transpose(q * (width // heads) ** -0.5, k)  # [N*H, Q, L]
    if causal:
        later = jt.index(scores.shape, 2) > jt.index(scores.shape, 1)
        scores = jt.ternary(later, jt.full_like(scores, MASKED), scores)
    mixed = nn.bmm(nn.softmax(scores, dim=-1), v)  # [N*H, Q, D/H]
    mixed = mixed.reshape(n, heads, queries, width // heads).permute(0, 2, 1, 3)
    return mixed.reshape(n, queries, width)


def attend_packed(qkv: jt.Var, heads: int, causal: bool = False) -> jt.Var:
    """Self-attention of queries, keys and values side by side: [N, L, 3D] -> [N, L, D]."""
    if attention.fits(qkv, heads):
        return attention.attention(qkv, heads, causal)
    width = qkv.shape[2] // 3
    query, key, value = (qkv[:, :, i * width : (i + 1) * width] for i in range(3))
    return attend(query, key, value, heads, causal)


def at(x: jt.Var, place: np.ndarray) -> jt.Var:
    """x[N, L, D] at the tokens place[N] -> [N, D]."""
    return x[jt.arange(x.shape[0]), jt.array(np.asarray(place, dtype=np.int32))]


def patch_rows(images: jt.Var, patch: int) -> jt.Var:
    """[B, 3, R, R] -> [B, G*G, 3*P*P]: each patch's pixels in the order of a convolution's weights,
    so that a convolution of stride P is one matrix product.
    """
    b, channels, side, _ = images.shape
    grid = side // patch
    x = images.reshape(b, channels, grid, patch, grid, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(b, grid * grid, channels * patch * patch)


def linear(
    packed: product.Weights, x: jt.Var, weight: jt.Var, bias: jt.Var | None, residual=None
) -> jt.Var:
    """x weight^T + bias (+ residual): [..., K] -> [..., N], for a weight[N, ...] of K numbers a
    row; `packed` belongs to this weight.
    """
    if product.fits(x, [weight], [bias]):
        return product.linear(packed, x, weight, bias, residual)
    if product.fits_gpu(x, weight):
        y = product.on_gpu(packed, x, weight)
        y = y if bias is None else y + bias
    else:
        y = nn.linear(x, weight.reshape(weight.shape[0], -1), bias)
    return y if residual is None else residual + y


def project(packed: product.Weights, x: jt.Var, weight: jt.Var) -> jt.Var:
    """x weight: [..., K] -> [..., N], for a weight[K, N], to which `packed` belongs."""
    if product.fits(x, [weight]):
        return product.linear(packed, x, weight, turned=True)
    if product.fits_gpu(x, weight):
        return product.on_gpu(packed, x, weight, turned=True)
    return jt.matmul(x, weight)


class Linear(nn.Linear):
    """A linear layer that takes the fast path where its weights do not learn."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        self.packed = product.Weights()

    def execute(self, x: jt.Var, residual: jt.Var | None = None) -> jt.Var:
        return linear(self.packed, x, self.weight, self.bias, residual)


class LayerNorm(nn.LayerNorm):
    """Over the last axis; takes the fast path where its weights do not learn."""

    def execute(self, x: jt.Var) -> jt.Var:
        if norm.fits(x, self.weight, self.bias):
            return norm.norm(x, self.weight, self.bias, self.eps)
        return super().execute(x)


def two_layers(
    wide: jt.Module, narrow: jt.Module, activation: str, x: jt.Var, residual: jt.Var
) -> jt.Var:
    """residual + narrow(activation(wide(x))): [..., D] -> [..., D]."""
    pair = wide, narrow
    if all(type(layer) is Linear for layer in pair):
        weights, biases = [each.weight for each in pair], [each.bias for each in pair]
        if product.fits(x, weights, biases):
            return product.mlp((wide.packed, narrow.packed), x, residual, wide, narrow, activation)
    return narrow(ACTIVATIONS[activation](wide(x)), residual)


class Attention(jt.Module):
    """x + self-attention of `normed`, one projection for query, key and value: [N, L, D], or [N, D]
    at the tokens `place`[N].
    """

    def __init__(self, width: int, heads: int):
        self.heads = heads
        self.in_proj_weight = jt.zeros((3 * width, width))
        self.in_proj_bias = jt.zeros((3 * width,))
        self.packed = product.Weights()
        self.out_proj = Linear(width, width)

    def project_qkv(self, normed: jt.Var) -> jt.Var:
        """Queries, keys and values side by side: [N, L, 3D]."""
        return linear(self.packed, normed, self.in_proj_weight, self.in_proj_bias)

    def execute(
        self, normed: jt.Var, causal: bool, x: jt.Var, place: np.ndarray | None = None
    ) -> jt.Var:
        mixed = attend_packed(self.project_qkv(normed), self.heads, causal)
        if place is not None:
            mixed, x = at(mixed, place), at(x, place)
        return self.out_proj(mixed, x)


class Mlp(jt.Module):
    """x + two linear layers on `normed`, four times as wide between them: [..., D]."""

    def __init__(self, width: int, activation: str):
        self.c_fc = Linear(width, 4 * width)
        self.c_proj = Linear(4 * width, width)
        self.activation = activation

    def execute(self, normed: jt.Var, x: jt.Var) -> jt.Var:
        return two_layers(self.c_fc, self.c_proj, self.activation, normed, x)


class ResidualAttentionBlock(jt.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): [N, L, D], or [N, D] at the tokens `place`."""

    def __init__(self, width: int, heads: int, activation: str):
        self.attn = Attention(width, heads)
        self.ln_1 = LayerNorm(width)
        self.mlp = Mlp(width, activation)
        self.ln_2 = LayerNorm(width)

    def execute(self, x: jt.Var, causal: bool, place: np.ndarray | None = None) -> jt.Var:
        x = self.attn(self.ln_1(x), causal, x, place)
        return self.mlp(self.ln_2(x), x)


class Transformer(jt.Module):
    """A stack of residual attention blocks, of whose output CLIP takes one token: [N, L, D] ->
    [N, D] at the tokens `place`[N]. The last block does without the others after its attention.
    """

    def __init__(self, width: int, layers: int, heads: int, activation: str, causal: bool):
        self.causal = causal
        blocks = [ResidualAttentionBlock(width, heads, activation) for _ in range(layers)]
        self.resblocks = nn.Sequential(*blocks)

    def execute(self, x: jt.Var, place: np.ndarray) -> jt.Var:
        *blocks, last = self.resblocks
        for block in blocks:
            x = block(x, self.causal)
        return last(x, self.causal, place)

"""The residual attention blocks of CLIP's text tower and of its ViT.

Names and arithmetic follow CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020).
Shapes: N sequences (images or sentences), L tokens, D width, H heads.
"""

import jittor as jt
import numpy as np
from jittor import nn

from kernels import layer_norm
from kernels.attention import self_attention
from kernels.linear import PackedWeights, fits_cpu, linear, mlp_on_cpu


def quick_gelu(x: jt.Var) -> jt.Var:
    """Applies the activation of OpenAI's weights."""
    return x * jt.sigmoid(1.702 * x)


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": nn.gelu}


def select_tokens(x: jt.Var, positions: np.ndarray) -> jt.Var:
    """Selects one token of each sequence: x[N, L, D] at positions[N] -> [N, D]."""
    return x[jt.arange(x.shape[0]), jt.array(np.asarray(positions, dtype=np.int32))]


def extract_patches(images: jt.Var, patch: int) -> jt.Var:
    """Cuts images [B, 3, R, R] into patches [B, G*G, 3*P*P].

    The pixels of a patch have the order of a convolution's weights, so that a convolution of stride
    P is one matrix product.
    """
    b, channels, side, _ = images.shape
    grid = side // patch
    x = images.reshape(b, channels, grid, patch, grid, patch)  # [B, 3, G, P, G, P]
    return x.permute(0, 2, 4, 1, 3, 5).reshape(b, grid * grid, channels * patch * patch)


class Linear(nn.Linear):
    """A linear layer that takes the fast path if its weights do not learn."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        self.packed = PackedWeights()

    def execute(self, x: jt.Var, residual: jt.Var | None = None) -> jt.Var:
        return linear(self.packed, x, self.weight, self.bias, residual)


class LayerNorm(nn.LayerNorm):
    """Layer norm over the last axis; takes the fast path if its weights do not learn."""

    def execute(self, x: jt.Var) -> jt.Var:
        if layer_norm.fits(x, self.weight, self.bias):
            return layer_norm.layer_norm(x, self.weight, self.bias, self.eps)
        return super().execute(x)


class Attention(jt.Module):
    """x + self-attention of `normed`: [N, L, D], or [N, D] of the tokens at positions[N].

    Query, key and value have one projection.
    """

    def __init__(self, width: int, heads: int):
        self.heads = heads
        self.in_proj_weight = jt.zeros((3 * width, width))
        self.in_proj_bias = jt.zeros((3 * width,))
        self.packed = PackedWeights()
        self.out_proj = Linear(width, width)

    def project_qkv(self, normed: jt.Var) -> jt.Var:
        """Returns queries, keys and values side by side: [N, L, 3D]."""
        return linear(self.packed, normed, self.in_proj_weight, self.in_proj_bias)

    def execute(
        self, normed: jt.Var, causal: bool, x: jt.Var, positions: np.ndarray | None = None
    ) -> jt.Var:
        mixed = self_attention(self.project_qkv(normed), self.heads, causal)  # [N, L, D]
        if positions is not None:
            mixed, x = select_tokens(mixed, positions), select_tokens(x, positions)  # [N, D]
        return self.out_proj(mixed, x)


class Mlp(jt.Module):
    """x + two linear layers on `normed`, with a width of 4D between them: [..., D]."""

    def __init__(self, width: int, activation: str):
        self.c_fc = Linear(width, 4 * width)
        self.c_proj = Linear(4 * width, width)
        self.activation = activation

    def execute(self, normed: jt.Var, x: jt.Var) -> jt.Var:
        wide, narrow = self.c_fc, self.c_proj
        is_plain = type(wide) is Linear and type(narrow) is Linear  # without adapters
        if is_plain and fits_cpu(normed, [wide.weight, narrow.weight], [wide.bias, narrow.bias]):
            packed = wide.packed, narrow.packed
            return mlp_on_cpu(packed, normed, x, wide, narrow, self.activation)
        return narrow(ACTIVATIONS[self.activation](wide(normed)), x)


class ResidualAttentionBlock(jt.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): [N, L, D], or [N, D] at positions[N]."""

    def __init__(self, width: int, heads: int, activation: str):
        self.attn = Attention(width, heads)
        self.ln_1 = LayerNorm(width)
        self.mlp = Mlp(width, activation)
        self.ln_2 = LayerNorm(width)

    def execute(self, x: jt.Var, causal: bool, positions: np.ndarray | None = None) -> jt.Var:
        x = self.attn(self.ln_1(x), causal, x, positions)
        return self.mlp(self.ln_2(x), x)


class Transformer(jt.Module):
    """A stack of residual attention blocks: x[N, L, D] -> [N, D], the tokens at positions[N].

    CLIP uses one token of each sequence. The last block computes only these after its attention.
    """

    def __init__(self, width: int, layers: int, heads: int, activation: str, causal: bool):
        self.causal = causal
        blocks = [ResidualAttentionBlock(width, heads, activation) for _ in range(layers)]
        self.resblocks = nn.Sequential(*blocks)

    def execute(self, x: jt.Var, positions: np.ndarray) -> jt.Var:
        *blocks, last = self.resblocks
        for block in blocks:
            x = block(x, self.causal)
        return last(x, self.causal, positions)

"""The residual attention blocks of CLIP's text tower and of its ViT.

Names and arithmetic follow CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020).
Shapes: N sequences (images or sentences), L tokens, D width, H heads.
"""

import jittor as jt
from jittor import nn

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


def patch_rows(images: jt.Var, patch: int) -> jt.Var:
    """[B, 3, R, R] -> [B, G*G, 3*P*P]: each patch's pixels in the order of a convolution's weights,
    so that a convolution of stride P is one matrix product.
    """
    b, channels, side, _ = images.shape
    grid = side // patch
    x = images.reshape(b, channels, grid, patch, grid, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(b, grid * grid, channels * patch * patch)


class Attention(jt.Module):
    """Self-attention with one projection for query, key and value: [N, L, D] -> [N, L, D]."""

    def __init__(self, width: int, heads: int):
        self.heads = heads
        self.in_proj_weight = jt.zeros((3 * width, width))
        self.in_proj_bias = jt.zeros((3 * width,))
        self.out_proj = nn.Linear(width, width)

    def execute(self, x: jt.Var, causal: bool) -> jt.Var:
        width = x.shape[2]
        qkv = nn.linear(x, self.in_proj_weight, self.in_proj_bias)  # [N, L, 3D]
        q, k, v = (qkv[:, :, i * width : (i + 1) * width] for i in range(3))
        return self.out_proj(attend(q, k, v, self.heads, causal))


class Mlp(jt.Module):
    """Two linear layers, four times as wide between them: [..., D] -> [..., D]."""

    def __init__(self, width: int, activation: str):
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)
        self.activation = ACTIVATIONS[activation]

    def execute(self, x: jt.Var) -> jt.Var:
        return self.c_proj(self.activation(self.c_fc(x)))


class ResidualAttentionBlock(jt.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): [N, L, D] -> [N, L, D]."""

    def __init__(self, width: int, heads: int, activation: str):
        self.attn = Attention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = Mlp(width, activation)
        self.ln_2 = nn.LayerNorm(width)

    def execute(self, x: jt.Var, causal: bool) -> jt.Var:
        x = x + self.attn(self.ln_1(x), causal)
        return x + self.mlp(self.ln_2(x))


class Transformer(jt.Module):
    """A stack of residual attention blocks: [N, L, D] -> [N, L, D]."""

    def __init__(self, width: int, layers: int, heads: int, activation: str, causal: bool):
        self.causal = causal
        blocks = [ResidualAttentionBlock(width, heads, activation) for _ in range(layers)]
        self.resblocks = nn.Sequential(*blocks)

    def execute(self, x: jt.Var) -> jt.Var:
        for block in self.resblocks:
            x = block(x, self.causal)
        return x

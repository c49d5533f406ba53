"""The layers that low-rank adapters put in the place of CLIP's own.

Source: LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685), with the dropout and the factor of
CLIP-LoRA (Zanella & Ben Ayed, CVPRW 2024). Shapes: N sequences, L tokens, D width, r rank.

A layer here has the variables of the layer that it replaces, under the same names, so that the
model's parameters stay what they were. Its adapters stand in a tuple, where Jittor does not look
for parameters: `models.lora.adapters.LoraAdapters` owns them.
"""

from collections.abc import Sequence

import jittor as jt
import numpy as np
from jittor import nn

from jclip.transformer import Attention, Linear, linear
from kernels import low_rank


class LowRank(jt.Module):
    """The change of one projection: x[..., D_in] -> factor * B(A(dropout(x))), [..., D_out].

    A[r, D_in] starts with the values given, float32; B[D_out, r] starts at 0. `dropout` is the
    share of entries of x that are set to 0, in training only.
    """

    def __init__(self, first: np.ndarray, outputs: int, factor: float, dropout: float):
        self.A = jt.array(first)
        self.B = jt.zeros((outputs, len(first)))
        self.factor, self.dropout = factor, dropout

    @property
    def share(self) -> float:
        """The share of entries that dropout sets to 0 now."""
        return self.dropout if self.is_training() else 0.0

    def execute(self, x: jt.Var) -> jt.Var:
        if self.share:
            # the clone, of the same memory, keeps Jittor from fusing dropout with what made x: the
            # last bits of x would change, and with them the base product
            x = nn.dropout(x.clone(), self.share, is_train=True)
        return self.factor * nn.linear(nn.linear(x, self.A), self.B)

    def product(self) -> np.ndarray:
        """The change of the weight, factor * B A: [D_out, D_in]."""
        return np.float32(self.factor) * (self.B.numpy() @ self.A.numpy())


def changed(
    base: jt.Var, x: jt.Var, adapters: Sequence[LowRank], places: Sequence[int] = (0,)
) -> jt.Var:
    """base[..., W] with what the adapters, alike but for their values, make of x[..., D_in] added:
    that of place p to the columns p * D_out and following.
    """
    first = adapters[0]
    outputs = first.B.shape[0]
    if low_rank.fits(x, outputs):
        a, b = (jt.stack([getattr(each, name) for each in adapters]) for name in "AB")
        seeds = np.random.randint(2**31, size=len(adapters)) if first.share else [0] * len(adapters)
        return low_rank.low_rank(
            x, base, a, b, places, factor=first.factor, dropout=first.share, seeds=seeds
        )
    parts = [base[..., i : i + outputs] for i in range(0, base.shape[-1], outputs)]
    for place, adapter in zip(places, adapters, strict=True):
        parts[place] = parts[place] + adapter(x)
    return jt.concat(parts, dim=-1)


class AdaptedLinear(jt.Module):
    """A linear layer with one adapter: [..., D_in] -> [..., D_out]."""

    def __init__(self, base: Linear, adapter: LowRank):
        self.weight, self.bias, self.kept = base.weight, base.bias, base.kept
        self._adapters = (adapter,)

    def execute(self, x: jt.Var, residual: jt.Var | None = None) -> jt.Var:
        y = linear(self.kept, x, self.weight, self.bias, residual)
        return changed(y, x, self._adapters)

    def merged_weight(self) -> tuple[jt.Var, np.ndarray]:
        """The layer's weight, and its values with the change added."""
        return self.weight, self.weight.numpy() + self._adapters[0].product()


class AdaptedAttention(Attention):
    """Self-attention with adapters at some of query (0), key (1) and value (2). The base product
    stays one.
    """

    def __init__(self, base: Attention, adapters: dict[int, LowRank]):
        self.heads, self.kept = base.heads, base.kept
        self.in_proj_weight, self.in_proj_bias = base.in_proj_weight, base.in_proj_bias
        self.out_proj = base.out_proj
        self._places, self._adapters = tuple(adapters), tuple(adapters.values())

    def packed(self, normed: jt.Var) -> jt.Var:
        return changed(super().packed(normed), normed, self._adapters, self._places)

    def merged_weight(self) -> tuple[jt.Var, np.ndarray]:
        """The packed weight, and its values with the changes added: [3D, D]."""
        merged = self.in_proj_weight.numpy().copy()
        width = merged.shape[1]
        for place, adapter in zip(self._places, self._adapters, strict=True):
            merged[place * width : (place + 1) * width] += adapter.product()
        return self.in_proj_weight, merged

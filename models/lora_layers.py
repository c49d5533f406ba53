"""The layers that low-rank adapters put in the place of CLIP's own.

Source: LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685), with the dropout and the factor of
CLIP-LoRA (Zanella & Ben Ayed, CVPRW 2024). Shapes: N sequences, L tokens, D width, r rank.

A layer here has the variables of the layer that it replaces, under the same names, so that the
model's parameters stay what they were. Its adapters stand in a tuple, where Jittor does not look
for parameters: `models.lora.LoraAdapters` owns them.
"""

import jittor as jt
import numpy as np
from jittor import nn

from jclip.transformer import Attention, attend


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
    def drops(self) -> bool:
        """Whether dropout acts now."""
        return self.dropout > 0 and self.is_training()

    def widen(self, narrow: jt.Var) -> jt.Var:
        """[..., r] -> [..., D_out]."""
        return self.factor * nn.linear(narrow, self.B)

    def execute(self, x: jt.Var) -> jt.Var:
        if self.drops:
            # the clone, of the same memory, keeps Jittor from fusing dropout with what made x: the
            # last bits of x would change, and with them the base product
            x = nn.dropout(x.clone(), self.dropout, is_train=True)
        return self.widen(nn.linear(x, self.A))

    def product(self) -> np.ndarray:
        """The change of the weight, factor * B A: [D_out, D_in]."""
        return np.float32(self.factor) * (self.B.numpy() @ self.A.numpy())


class AdaptedLinear(jt.Module):
    """A linear layer with one adapter: [..., D_in] -> [..., D_out]."""

    def __init__(self, base: nn.Linear, adapter: LowRank):
        self.weight, self.bias = base.weight, base.bias
        self._adapters = (adapter,)

    def execute(self, x: jt.Var) -> jt.Var:
        return nn.linear(x, self.weight, self.bias) + self._adapters[0](x)

    def merged_weight(self) -> tuple[jt.Var, np.ndarray]:
        """The layer's weight, and its values with the change added."""
        return self.weight, self.weight.numpy() + self._adapters[0].product()


class AdaptedAttention(jt.Module):
    """Self-attention with adapters at some of query (0), key (1) and value (2).

    [N, L, D] -> [N, L, D], as `jclip.transformer.Attention`; the base product stays one.
    """

    def __init__(self, base: Attention, adapters: dict[int, LowRank]):
        self.heads = base.heads
        self.in_proj_weight, self.in_proj_bias = base.in_proj_weight, base.in_proj_bias
        self.out_proj = base.out_proj
        self._places, self._adapters = tuple(adapters), tuple(adapters.values())

    def execute(self, x: jt.Var, causal: bool) -> jt.Var:
        width = x.shape[2]
        packed = nn.linear(x, self.in_proj_weight, self.in_proj_bias)  # [N, L, 3D]
        qkv = [packed[:, :, i * width : (i + 1) * width] for i in range(3)]
        for place, change in zip(self._places, self._changes(x), strict=True):
            qkv[place] = qkv[place] + change
        return self.out_proj(attend(*qkv, self.heads, causal))

    def _changes(self, x: jt.Var) -> list[jt.Var]:
        """What each adapter adds, [N, L, D]: one product with all A where no dropout parts them."""
        if any(adapter.drops for adapter in self._adapters):
            return [adapter(x) for adapter in self._adapters]
        narrow = nn.linear(x, jt.concat([adapter.A for adapter in self._adapters]))  # [N, L, 3r]
        rank = narrow.shape[2] // len(self._adapters)
        return [
            adapter.widen(narrow[:, :, i * rank : (i + 1) * rank])
            for i, adapter in enumerate(self._adapters)
        ]

    def merged_weight(self) -> tuple[jt.Var, np.ndarray]:
        """The packed weight, and its values with the changes added: [3D, D]."""
        merged = self.in_proj_weight.numpy().copy()
        width = merged.shape[1]
        for place, adapter in zip(self._places, self._adapters, strict=True):
            merged[place * width : (place + 1) * width] += adapter.product()
        return self.in_proj_weight, merged

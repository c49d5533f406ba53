"""Low-rank adapters on the CPU as one operator, dropout included.

Jittor 1.3.11 would draw, write and read a random number for each entry of each adapter's input.
Here the mask of dropout is a hash of (seed, row, column), computed when it is needed, forward and
backward. The plain reference is `models.lora.LowRank`, one adapter as a module.
Source: LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685).
"""

from collections.abc import Sequence

import jittor as jt
import numpy as np

from kernels import cpu_operator
from kernels.cpu_operator import LANES

HEADERS = ("lanes", "lora")
SETTING = """
    auto get = [&](const char* name) { return data[name]; };
    lora::Setting s{(long)get("rows"), (long)get("inputs"), (long)get("outputs"),
        (long)get("rank"), (long)get("adapters"), (long)get("columns"), (float)get("factor"),
        (float)get("dropout"),
        {(long)get("offset0"), (long)get("offset1"), (long)get("offset2")},
        {(unsigned)get("seed0"), (unsigned)get("seed1"), (unsigned)get("seed2")}};
"""
FORWARD = SETTING + "lora::forward(s, in0_p, in1_p, in2_p, in3_p, out0_p, out1_p);"
BACKWARD = SETTING + "lora::backward(s, in0_p, in1_p, in2_p, in3_p, in4_p, out0_p, out1_p, out2_p);"
MAX_ADAPTERS = 3  # on one input: those of query, key and value


def fits(x: jt.Var, outputs: int) -> bool:
    """Returns whether the operator takes x[..., D]: float32 on the CPU, widths multiples of 16."""
    return cpu_operator.accepts(x) and x.shape[-1] % LANES == outputs % LANES == 0


def add_lora(
    base: jt.Var,
    x: jt.Var,
    a: jt.Var,
    b: jt.Var,
    slots: Sequence[int],
    *,
    factor: float,
    dropout: float,
    seeds: Sequence[int] | np.ndarray,
) -> jt.Var:
    """Returns base[..., W] plus the low-rank changes of up to three adapters; see `fits`.

    x: [..., D], the input of all adapters. a: [P, r, D] and b: [P, O, r], the P adapters.
    Adapter i adds factor * b_i (a_i dropout(x)) to the O columns from slots[i] * O on. `dropout`
    is the share of entries set to 0, drawn by seeds[i]. Gradients reach base, x, a and b.
    """
    count, rank, inputs = a.shape
    setting = {"rows": x.numel() // inputs, "inputs": inputs, "outputs": b.shape[1], "rank": rank}
    setting |= {"adapters": count, "columns": base.shape[-1], "factor": factor, "dropout": dropout}
    for i in range(MAX_ADAPTERS):
        setting[f"offset{i}"] = slots[i] * b.shape[1] if i < count else 0
        setting[f"seed{i}"] = int(seeds[i]) if i < count else 0
    return AddLora(setting)(x, base, a, b)


class AddLora(jt.Function):
    """The differentiable function behind `add_lora`."""

    def __init__(self, setting: dict):
        super().__init__()
        self.setting = setting

    def execute(self, x, base, a, b):
        shapes = [tuple(base.shape), (*x.shape[:-1], a.shape[0] * a.shape[1])]
        y, narrow = cpu_operator.run(HEADERS, FORWARD, [x, base, a, b], shapes, self.setting)
        self.saved = [x, a, b, narrow]
        return y

    def grad(self, dy):
        shapes = [tuple(each.shape) for each in self.saved[:3]]
        dx, da, db = cpu_operator.run(HEADERS, BACKWARD, [dy, *self.saved], shapes, self.setting)
        return dx, dy, da, db

"""The changes of low-rank adapters on the CPU as one operator, dropout included.

Jittor 1.3.11 would draw, write and read a random number for each entry of each adapter's input.
Here what dropout keeps is a hash of (seed, row, column), made where it is needed, forward and
backward. Source: LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685).
"""

from functools import cache

from kernels import cpu_operator
from kernels.cpu_operator import LANES

HEADERS = ("lanes", "low_rank")
SETTING = """
    auto one = [&](const char* name) { return data[name]; };
    low_rank::Setting s{(long)one("rows"), (long)one("inputs"), (long)one("outputs"),
        (long)one("rank"), (long)one("places"), (long)one("columns"), (float)one("factor"),
        (float)one("dropout"),
        {(long)one("offset0"), (long)one("offset1"), (long)one("offset2")},
        {(unsigned)one("seed0"), (unsigned)one("seed1"), (unsigned)one("seed2")}};
"""
FORWARD = SETTING + "low_rank::forward(s, in0_p, in1_p, in2_p, in3_p, out0_p, out1_p);"
BACKWARD = (
    SETTING + "low_rank::backward(s, in0_p, in1_p, in2_p, in3_p, in4_p, out0_p, out1_p, out2_p);"
)


def fits(x, outputs: int) -> bool:
    """Whether this path takes it: float32 on the CPU, widths that are multiples of 16."""
    return cpu_operator.taken(x) and x.shape[-1] % LANES == outputs % LANES == 0


def low_rank(x, base, a, b, places, *, factor: float, dropout: float, seeds):
    """base[..., W] + the changes of up to three adapters: x[..., D], a[P, r, D], b[P, O, r]; see
    `fits`.

    Adapter i adds factor * b_i (a_i dropout(x)) to the columns from places[i] * O on; dropout, the
    share of entries set to 0, draws by seeds[i]. Gradients reach x, base, a and b.
    """
    count, rank, inputs = a.shape
    setting = {
        "rows": x.numel() // inputs,
        "inputs": inputs,
        "outputs": b.shape[1],
        "rank": rank,
        "places": count,
        "columns": base.shape[-1],
        "factor": factor,
        "dropout": dropout,
    }
    for i in range(3):
        setting[f"offset{i}"] = places[i] * b.shape[1] if i < count else 0
        setting[f"seed{i}"] = int(seeds[i]) if i < count else 0
    return function()(setting)(x, base, a, b)


@cache
def function():
    """The differentiable function of (x, base, a, b), made once Jittor is there."""
    import jittor as jt

    class LowRank(jt.Function):
        def __init__(self, setting: dict):
            super().__init__()
            self.setting = setting

        def execute(self, x, base, a, b):
            narrow = (*x.shape[:-1], a.shape[0] * a.shape[1])
            shapes = [tuple(base.shape), narrow]
            y, narrow = cpu_operator.run(HEADERS, FORWARD, [x, base, a, b], shapes, self.setting)
            self.kept = [x, a, b, narrow]
            return y

        def grad(self, dy):
            shapes = [tuple(each.shape) for each in self.kept[:3]]
            dx, da, db = cpu_operator.run(HEADERS, BACKWARD, [dy, *self.kept], shapes, self.setting)
            return dx, dy, da, db

    return LowRank

"""Self-attention on the CPU as one operator, forward and backward.

Jittor 1.3.11 computes the two products of attention in plain loops, several times slower, and
writes every array between them. Source: Vaswani et al. 2017 (https://arxiv.org/abs/1706.03762),
section 3.2.
"""

from functools import cache

from runtime import cpu_operator
from runtime.cpu_operator import LANES

HEADERS = ("lanes", "attention")
CODE = """
    fast_attention::Setting s{in0->shape[0], in0->shape[1], in0->shape[2] / 3, (long)data["heads"],
                              (long)data["causal"]};
    fast_attention::run(s, in0_p, %s, out0_p);
"""
FORWARD, BACKWARD = CODE % "nullptr", CODE % "in1_p"


def fits(qkv, heads: int) -> bool:
    """Whether this path takes it: float32 on the CPU, a head of a multiple of 16 numbers."""
    return cpu_operator.taken(qkv) and qkv.shape[2] // 3 // heads % LANES == 0


def attention(qkv, heads: int, causal: bool = False):
    """Queries, keys and values qkv[N, L, 3D] of all heads -> [N, L, D], float32; see `fits`.

    `causal` hides from each token those after it. A sequence's bits depend neither on the other
    sequences nor on the number of threads. Raises ValueError for what does not fit.
    """
    if qkv.ndim != 3 or qkv.shape[2] % (3 * heads) or not fits(qkv, heads):
        raise ValueError(
            f"attention: qkv is {qkv.dtype} {tuple(qkv.shape)} for {heads} heads; this path takes "
            f"float32 [N, L, 3D] on the CPU, heads of a multiple of {LANES} numbers"
        )
    return function()({"heads": heads, "causal": int(causal)})(qkv)


@cache
def function():
    """The differentiable function of qkv, a class that is made once Jittor is there."""
    import jittor as jt

    class Attention(jt.Function):
        def __init__(self, setting: dict[str, int]):
            super().__init__()
            self.setting = setting

        def execute(self, qkv):
            self.qkv = qkv
            n, length, packed = qkv.shape
            shape = (n, length, packed // 3)
            return cpu_operator.run(HEADERS, FORWARD, [qkv], shape, self.setting)

        def grad(self, dy):
            inputs, shape = [self.qkv, dy], tuple(self.qkv.shape)
            return cpu_operator.run(HEADERS, BACKWARD, inputs, shape, self.setting)

    return Attention

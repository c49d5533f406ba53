"""Layer norm with frozen weights on the CPU, as one operator forward and one backward.

Its plain reference is `jittor.nn.LayerNorm`, which also serves whatever does not fit here.
Source: Ba et al. 2016 (https://arxiv.org/abs/1607.06450).
"""

import jittor as jt

from kernels import cpu_operator
from kernels.cpu_operator import LANES

HEADERS = ("lanes", "layer_norm")
FORWARD = """
    long width = in1->num;
    norm::forward(in0->num / width, width, data["epsilon"], in0_p, in1_p, in2_p, out0_p);
"""
BACKWARD = """
    long width = in2->num;
    norm::backward(in0->num / width, width, data["epsilon"], in0_p, in1_p, in2_p, out0_p);
"""


def fits(x: jt.Var, weight: jt.Var, bias: jt.Var) -> bool:
    """Returns whether the operator takes x[..., D]: float32 on the CPU, D a multiple of 16.

    weight[D] and bias[D] must be frozen.
    """
    return (
        cpu_operator.accepts(x, weight, bias)
        and tuple(weight.shape) == (x.shape[-1],)
        and x.shape[-1] % LANES == 0
        and cpu_operator.are_frozen(weight, bias)
    )


def layer_norm(x: jt.Var, weight: jt.Var, bias: jt.Var, epsilon: float) -> jt.Var:
    """Returns (x - mean) / sqrt(variance + epsilon) * weight + bias, over the last axis of x.

    x must fit, see `fits`. The gradient reaches x.
    """
    return FrozenLayerNorm(weight, bias, epsilon)(x)


class FrozenLayerNorm(jt.Function):
    """The differentiable function behind `layer_norm`."""

    def __init__(self, weight, bias, epsilon: float):
        super().__init__()
        self.weight, self.bias, self.setting = weight, bias, {"epsilon": epsilon}

    def execute(self, x):
        self.x, inputs = x, [x, self.weight, self.bias]
        return cpu_operator.run(HEADERS, FORWARD, inputs, tuple(x.shape), self.setting)

    def grad(self, dy):
        inputs = [dy, self.x, self.weight]
        return cpu_operator.run(HEADERS, BACKWARD, inputs, tuple(dy.shape), self.setting)

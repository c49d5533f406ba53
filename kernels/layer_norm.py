"""Layer norm whose weights do not learn, on the CPU, as one operator forward and one backward.

Source: Ba et al. 2016 (https://arxiv.org/abs/1607.06450).
"""

from functools import cache

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


def fits(x, weight, bias) -> bool:
    """Whether this path takes it: float32 on the CPU, a width that is a multiple of 16, and weights
    that do not learn.
    """
    return (
        cpu_operator.taken(x, weight, bias)
        and tuple(weight.shape) == (x.shape[-1],)
        and x.shape[-1] % LANES == 0
        and cpu_operator.frozen(weight, bias)
    )


def norm(x, weight, bias, epsilon: float):
    """x[..., D] -> (x - mean) / sqrt(variance + epsilon) * weight + bias, over D; see `fits`."""
    return function()(weight, bias, epsilon)(x)


@cache
def function():
    """The differentiable function of x, a class that is made once Jittor is there."""
    import jittor as jt

    class Norm(jt.Function):
        def __init__(self, weight, bias, epsilon: float):
            super().__init__()
            self.weight, self.bias, self.setting = weight, bias, {"epsilon": epsilon}

        def execute(self, x):
            self.x, inputs = x, [x, self.weight, self.bias]
            return cpu_operator.run(HEADERS, FORWARD, inputs, tuple(x.shape), self.setting)

        def grad(self, dy):
            inputs = [dy, self.x, self.weight]
            return cpu_operator.run(HEADERS, BACKWARD, inputs, tuple(dy.shape), self.setting)

    return Norm

"""Linear layers of a frozen network: by oneDNN on the CPU, in bf16 on a GPU if asked, or plain.

Jittor 1.3.11 multiplies through `dnnl_sgemm`, in fp32 only, and rearranges the weights in each
call. Here they are packed once, the bias and the residual sum are part of the product, and the two
layers of an MLP pass through the cache in groups of rows. If asked, factors are rounded to bf16 (8
bits; the relative error of a result is about 2e-3) while sums stay fp32. The bits of a row depend
neither on the other rows nor on their number. Gradients reach x and the residual; weights that
learn take the plain form. Source: oneDNN 2.6, developer guide, matmul.
"""

import math
from collections.abc import Sequence

import jittor as jt
from jittor import nn

from kernels import cpu_operator, cuda_operator
from kernels.cpu_operator import LANES

HEADERS = ("lanes", "onednn", "linear")
ACTIVATIONS = ("quick_gelu", "gelu")  # Activation in linear.hpp
PACK, LINEAR, MLP, MLP_BACKWARD = range(4)  # Task in linear.hpp
INPUTS = 6  # of every task, the unused ones empty, so that two operators are compiled, not eight
CODE = """
    using namespace fast_linear;
    auto get = [&](const char* name) { return (long)data[name]; };
    Call call{(Task)get("task"), {get("inputs"), get("outputs"), get("half") > 0},
              (Activation)get("activation"), get("transposed") > 0, get("has_bias") > 0,
              get("has_residual") > 0, (long)in0->num, (long)out0->num};
    float* in[] = {in0_p, in1_p, in2_p, in3_p, in4_p, in5_p};
    fast_linear::run(call, in, out0_p, %s);
"""
ONE_OUTPUT, TWO_OUTPUTS = CODE % "nullptr", CODE % "out1_p"
NAMES = ("inputs", "outputs", "half", "activation", "transposed", "has_bias", "has_residual")
DEFAULTS = dict.fromkeys(NAMES, 0)


class PackedWeights:
    """Copies of one frozen weight in the layouts of oneDNN and of a GPU, until it changes."""

    def __init__(self):
        self._id, self._copies = None, {}

    def for_cpu(self, weight: jt.Var, half: bool, transposed: bool = False) -> jt.Var:
        """Returns the weight as oneDNN wants it, in bf16 if `half`, else in fp32.

        weight: [N, ...] with K numbers per row, for x[., K] -> [., N]; or, if `transposed`, for
        x[., N] -> [., K].
        """
        copies = self._copies_of(weight)
        if (half, transposed) not in copies:
            outputs, inputs = matrix_shape(weight)
            if transposed:
                outputs, inputs = inputs, outputs
            room = (-(-inputs // 64) * 64) * (-(-outputs // 64) * 64) // (2 if half else 1)
            setting = {"inputs": inputs, "outputs": outputs, "half": half, "transposed": transposed}
            copies[half, transposed] = _run(PACK, [weight], (room,), **setting).stop_grad()
        return copies[half, transposed]

    def for_gpu(self, weight: jt.Var) -> jt.Var:
        """Returns the weight[N, ...] of K numbers per row as a matrix [N, K] in bfloat16."""
        copies = self._copies_of(weight)
        if "bf16" not in copies:
            copies["bf16"] = weight.reshape(matrix_shape(weight)).bfloat16().stop_grad()
        return copies["bf16"]

    def _copies_of(self, weight: jt.Var) -> dict:
        if weight.id != self._id:  # each update gives the weight a new id
            self._id, self._copies = weight.id, {}
        return self._copies


def matrix_shape(weight: jt.Var) -> tuple[int, int]:
    """Returns (N, K) of a weight[N, ...] with K numbers per row, such as a convolution's."""
    return weight.shape[0], weight.numel() // weight.shape[0]


def linear(
    packed: PackedWeights,
    x: jt.Var,
    weight: jt.Var,
    bias: jt.Var | None = None,
    residual: jt.Var | None = None,
) -> jt.Var:
    """Returns x weight^T + bias + residual: [..., N], by the fastest way that takes them.

    x: [..., K]. weight: [N, ...] with K numbers per row. bias: [N]. residual: [..., N].
    `packed` belongs to this weight and keeps its layouts between calls.
    """
    if fits_cpu(x, [weight], [bias]):
        return linear_on_cpu(packed, x, weight, bias, residual)
    if fits_gpu(x, weight):
        y = linear_on_gpu(packed, x, weight)
        y = y if bias is None else y + bias
    else:  # by Jittor's own operators: the reference of the fast ways
        y = nn.linear(x, weight.reshape(weight.shape[0], -1), bias)
    return y if residual is None else residual + y


def project(packed: PackedWeights, x: jt.Var, weight: jt.Var) -> jt.Var:
    """Returns x weight: [..., N], for x[..., K] and weight[K, N]; else as `linear`."""
    if fits_cpu(x, [weight]):
        return linear_on_cpu(packed, x, weight, transposed=True)
    if fits_gpu(x, weight):
        return linear_on_gpu(packed, x, weight, transposed=True)
    return jt.matmul(x, weight)


def fits_cpu(x: jt.Var, weights: Sequence[jt.Var], biases: Sequence[jt.Var | None] = ()) -> bool:
    """Returns whether oneDNN takes layers with these weights and biases.

    All must be float32 on the CPU, frozen, with widths that are multiples of 16.
    """
    frozen = [*weights, *(bias for bias in biases if bias is not None)]
    return (
        cpu_operator.has_onednn()
        and cpu_operator.accepts(x, *frozen)
        and all(size % LANES == 0 for weight in weights for size in matrix_shape(weight))
        and cpu_operator.are_frozen(*frozen)
    )


def linear_on_cpu(
    packed: PackedWeights,
    x: jt.Var,
    weight: jt.Var,
    bias: jt.Var | None = None,
    residual: jt.Var | None = None,
    transposed: bool = False,
) -> jt.Var:
    """Computes `linear` by oneDNN; x and the weight must fit, see `fits_cpu`."""
    layer = FrozenLinear(packed, weight, bias, cpu_operator.precision == "bf16", transposed)
    return layer(x) if residual is None else layer(x, residual)


def mlp_on_cpu(
    packed: tuple[PackedWeights, PackedWeights],
    x: jt.Var,
    residual: jt.Var,
    wide: nn.Linear,
    narrow: nn.Linear,
    activation: str,
) -> jt.Var:
    """Returns residual + narrow(activation(wide(x))): [..., D], by oneDNN; see `fits_cpu`.

    wide: D -> 4D, narrow: 4D -> D, each with a bias. `packed` belongs to their weights.
    """
    kind = ACTIVATIONS.index(activation)
    return FrozenMlp(packed, wide, narrow, kind, cpu_operator.precision == "bf16")(x, residual)


def fits_gpu(x: jt.Var, weight: jt.Var) -> bool:
    """Returns whether a frozen layer's product goes through a GPU's tensor cores."""
    return cuda_operator.accepts(x, weight) and cpu_operator.are_frozen(weight)


def linear_on_gpu(
    packed: PackedWeights, x: jt.Var, weight: jt.Var, transposed: bool = False
) -> jt.Var:
    """Returns x[..., K] weight[N, ...]^T: [..., N] float32, with factors rounded to bf16.

    Sums are fp32, and the result is rounded to bf16 once. See `fits_gpu`.
    """
    multiply = jt.matmul if transposed else nn.matmul_transpose
    return multiply(x.bfloat16(), packed.for_gpu(weight)).float32()


def _run(task: int, arrays: list, shape, **setting: int):
    """Runs one task of `fast_linear::run`; two shapes ask an MLP for its activation's input too."""
    arrays = [array.reshape(-1) for array in arrays]  # the number of axes is compiled in
    arrays += [jt.zeros(1) for _ in range(INPUTS - len(arrays))]
    setting = DEFAULTS | {name: int(value) for name, value in setting.items()} | {"task": task}
    shapes = shape if isinstance(shape, list) else [shape]
    code = TWO_OUTPUTS if len(shapes) > 1 else ONE_OUTPUT
    flat = [(math.prod(each),) for each in shapes]
    outputs = cpu_operator.run(HEADERS, code, arrays, flat, setting)
    outputs = [y.reshape(each) for y, each in zip(outputs, shapes, strict=True)]
    return outputs if len(outputs) > 1 else outputs[0]


class FrozenLinear(jt.Function):
    """The differentiable function behind `linear_on_cpu`."""

    def __init__(self, packed, weight, bias, half, transposed):
        super().__init__()
        self.packed, self.weight, self.bias = packed, weight, bias
        self.half, self.transposed = half, transposed
        self.outputs, self.inputs = matrix_shape(weight)
        if transposed:
            self.outputs, self.inputs = self.inputs, self.outputs

    def execute(self, x, residual=None):
        self.shape, self.has_residual = tuple(x.shape), residual is not None
        weight = self.packed.for_cpu(self.weight, self.half, self.transposed)
        shape = (*self.shape[:-1], self.outputs)
        optional = [jt.zeros(1) if each is None else each for each in (self.bias, residual)]
        setting = {"inputs": self.inputs, "outputs": self.outputs, "half": self.half}
        setting |= {"has_bias": self.bias is not None, "has_residual": self.has_residual}
        return _run(LINEAR, [x, weight, *optional], shape, **setting)

    def grad(self, dy):
        weight = self.packed.for_cpu(self.weight, self.half, not self.transposed)
        setting = {"inputs": self.outputs, "outputs": self.inputs, "half": self.half}
        dx = _run(LINEAR, [dy, weight], self.shape, **setting)
        return (dx, dy) if self.has_residual else dx


class FrozenMlp(jt.Function):
    """The differentiable function behind `mlp_on_cpu`."""

    def __init__(self, packed, wide, narrow, activation, half):
        super().__init__()
        self.packed, self.layers, self.half = packed, (wide, narrow), half
        outputs, inputs = matrix_shape(wide.weight)
        self.setting = {"inputs": inputs, "outputs": outputs, "half": half}
        self.setting["activation"] = activation

    def weights(self, transposed: bool) -> list:
        pairs = zip(self.packed, self.layers, strict=True)
        return [packed.for_cpu(layer.weight, self.half, transposed) for packed, layer in pairs]

    def execute(self, x, residual):
        shape, (wide, narrow), (w1, w2) = tuple(x.shape), self.layers, self.weights(False)
        inputs = [x, residual, w1, wide.bias, w2, narrow.bias]
        if jt.flags.no_grad:
            return _run(MLP, inputs, shape, **self.setting)
        shapes = [shape, (*shape[:-1], self.setting["outputs"])]
        y, self.activation_input = _run(MLP, inputs, shapes, **self.setting)
        return y

    def grad(self, dy):
        w1, w2 = self.weights(transposed=True)
        inputs, shape = [dy, self.activation_input, w2, w1], tuple(dy.shape)
        return _run(MLP_BACKWARD, inputs, shape, **self.setting), dy

"""Linear layers of a frozen network: on the CPU by oneDNN with weights laid out once, on a GPU in
bf16 where asked.

Jittor 1.3.11 multiplies through `dnnl_sgemm`, in fp32 only, and lays the weights out anew in each
call. Here they are packed once, the bias and the residual sum are part of the product, and the two
layers of an MLP go through the cache in rows. Where asked, factors are rounded to bf16 (8 bits; a
result's relative error is about 2e-3) and sums stay fp32. A row's bits depend neither on the other
rows nor on their number. Gradients reach x and the residual; weights that learn take Jittor's own
way. Source: oneDNN 2.6, developer guide, matmul.
"""

import math
from functools import cache

from kernels import cpu_operator, cuda_operator
from kernels.cpu_operator import LANES

HEADERS = ("lanes", "onednn", "linear")
ACTIVATIONS = ("quick_gelu", "gelu")  # Activation in linear.hpp
PACK, LINEAR, MLP, MLP_BACKWARD = range(4)  # Task in linear.hpp
INPUTS = 6  # of every task, the unused ones empty: so that two operators are compiled, not eight
CODE = """
    using namespace fast_product;
    auto one = [&](const char* name) { return (long)data[name]; };
    Call call{(Task)one("task"), {one("inputs"), one("outputs"), one("half") > 0},
              (Activation)one("kind"), one("turned") > 0, one("biased") > 0, one("sums") > 0,
              (long)in0->num, (long)out0->num};
    float* in[] = {in0_p, in1_p, in2_p, in3_p, in4_p, in5_p};
    fast_product::run(call, in, out0_p, %s);
"""
ALONE, KEEPING = CODE % "nullptr", CODE % "out1_p"
SETTING = dict.fromkeys(
    ("task", "inputs", "outputs", "half", "kind", "turned", "biased", "sums"), 0
)


def operator(task: int, arrays: list, shape, **setting: int):
    """One run of `fast_product::run`; two shapes for an MLP that keeps what it activates."""
    import jittor as jt

    arrays = [each.reshape(-1) for each in arrays]  # the number of axes is compiled in
    arrays += [jt.zeros(1) for _ in range(INPUTS - len(arrays))]
    setting = SETTING | {name: int(value) for name, value in setting.items()} | {"task": task}
    shapes = shape if isinstance(shape, list) else [shape]
    code = KEEPING if len(shapes) > 1 else ALONE
    flat = [(math.prod(each),) for each in shapes]
    found = cpu_operator.run(HEADERS, code, arrays, flat, setting)
    found = [each.reshape(shape) for each, shape in zip(found, shapes, strict=True)]
    return found if len(found) > 1 else found[0]


class Weights:
    """A frozen layer's weight as oneDNN or a GPU wants it, kept until the weight changes."""

    def __init__(self):
        self._id, self._kept = None, {}

    def packed(self, weight, half: bool, turned: bool = False):
        """weight[N, ...] of K numbers a row, float32, for x[., K] -> [., N], or where `turned` for
        x[., N] -> [., K].
        """
        kept = self._of(weight)
        if (half, turned) not in kept:
            outputs, inputs = matrix(weight)[::-1] if turned else matrix(weight)
            room = (-(-inputs // 64) * 64) * (-(-outputs // 64) * 64) // (2 if half else 1)
            setting = {"inputs": inputs, "outputs": outputs, "half": half, "turned": turned}
            kept[half, turned] = operator(PACK, [weight], (room,), **setting).stop_grad()
        return kept[half, turned]

    def rounded(self, weight):
        """The weight in bfloat16, for a GPU: [N, K], of a weight[N, ...] of K numbers a row."""
        kept = self._of(weight)
        if "rounded" not in kept:
            kept["rounded"] = weight.reshape(matrix(weight)).bfloat16().stop_grad()
        return kept["rounded"]

    def _of(self, weight) -> dict:
        """What is kept of this weight; nothing yet where it changed."""
        if weight.id != self._id:  # a new one with each update
            self._id, self._kept = weight.id, {}
        return self._kept


def matrix(weight) -> tuple[int, int]:
    """(N, K) of a weight[N, ...], such as a convolution's."""
    return weight.shape[0], weight.numel() // weight.shape[0]


def half() -> bool:
    """Whether factors are rounded to bf16."""
    return cpu_operator.precision == "bf16"


def fits(x, weights, biases=()) -> bool:
    """Whether this path takes layers with these weights and biases (or None): float32 on the CPU,
    widths that are multiples of 16, and nothing that learns.
    """
    learned = [*weights, *(bias for bias in biases if bias is not None)]
    return (
        cpu_operator.usable()
        and cpu_operator.taken(x, *learned)
        and all(size % LANES == 0 for weight in weights for size in matrix(weight))
        and cpu_operator.frozen(*learned)
    )


def linear(kept: Weights, x, weight, bias=None, residual=None, turned: bool = False):
    """x[..., K] weight[N, ...]^T (+ bias[N]) (+ residual[..., N]) -> [..., N]; see `fits`.

    Where `turned` the weight is [K, N]. `kept` holds its layout from call to call.
    """
    layer = functions()[0](kept, weight, bias, half(), turned)
    return layer(x) if residual is None else layer(x, residual)


def mlp(kept: tuple[Weights, Weights], x, residual, wide, narrow, kind: str):
    """residual + narrow(kind(wide(x))) -> [..., D], for two `nn.Linear`, D -> 4D -> D; see `fits`.

    `kept` holds their layouts from call to call.
    """
    return functions()[1](kept, wide, narrow, ACTIVATIONS.index(kind), half())(x, residual)


def fits_gpu(x, weight) -> bool:
    """Whether a frozen layer's product goes through a GPU's tensor cores."""
    return cuda_operator.taken(x, weight) and cpu_operator.frozen(weight)


def on_gpu(kept: Weights, x, weight, turned: bool = False):
    """x[..., K] weight[N, ...]^T -> [..., N] float32, of factors rounded to bf16: sums are fp32,
    the result is rounded to bf16 once. Where `turned` the weight is [K, N]. See `fits_gpu`.
    """
    import jittor as jt

    half = kept.rounded(weight)
    multiply = jt.matmul if turned else jt.nn.matmul_transpose
    return multiply(x.bfloat16(), half).float32()


@cache
def functions() -> tuple[type, type]:
    """The differentiable functions, classes that are made once Jittor is there."""
    import jittor as jt

    class Linear(jt.Function):
        def __init__(self, kept, weight, bias, half, turned):
            super().__init__()
            self.kept, self.weight, self.bias = kept, weight, bias
            self.half, self.turned = half, turned
            self.outputs, self.inputs = matrix(weight)[::-1] if turned else matrix(weight)

        def execute(self, x, residual=None):
            outputs, inputs = self.outputs, self.inputs
            self.shape, self.sums = tuple(x.shape), residual is not None
            packed = self.kept.packed(self.weight, self.half, self.turned)
            shape = (*self.shape[:-1], outputs)
            optional = [jt.zeros(1) if each is None else each for each in (self.bias, residual)]
            setting = {"inputs": inputs, "outputs": outputs, "half": self.half}
            setting |= {"biased": self.bias is not None, "sums": self.sums}
            return operator(LINEAR, [x, packed, *optional], shape, **setting)

        def grad(self, dy):
            packed = self.kept.packed(self.weight, self.half, not self.turned)
            setting = {"inputs": self.outputs, "outputs": self.inputs, "half": self.half}
            dx = operator(LINEAR, [dy, packed], self.shape, **setting)
            return (dx, dy) if self.sums else dx

    class Mlp(jt.Function):
        def __init__(self, kept, wide, narrow, kind, half):
            super().__init__()
            self.kept, self.layers, self.half = kept, (wide, narrow), half
            outputs, inputs = matrix(wide.weight)
            self.setting = {"inputs": inputs, "outputs": outputs, "half": half, "kind": kind}

        def packs(self, turned: bool) -> list:
            pairs = zip(self.kept, self.layers, strict=True)
            return [kept.packed(layer.weight, self.half, turned) for kept, layer in pairs]

        def execute(self, x, residual):
            shape, (wide, narrow), (w1, w2) = tuple(x.shape), self.layers, self.packs(turned=False)
            inputs = [x, residual, w1, wide.bias, w2, narrow.bias]
            if jt.flags.no_grad:
                return operator(MLP, inputs, shape, **self.setting)
            shapes = [shape, (*shape[:-1], self.setting["outputs"])]
            y, self.argument = operator(MLP, inputs, shapes, **self.setting)
            return y

        def grad(self, dy):
            w1, w2 = self.packs(turned=True)
            inputs, shape = [dy, self.argument, w2, w1], tuple(dy.shape)
            return operator(MLP_BACKWARD, inputs, shape, **self.setting), dy

    return Linear, Mlp

"""Convolutions on the CPU by oneDNN in its own memory formats, faster than Jittor's own.

In fp32 with Winograd's algorithm, or in bf16 for processors that multiply it. Jittor 1.3.11 runs a
convolution in fp32, each call with new memory, and its backward passes without Winograd. Here
tensors come and go in fp32 and every sum is fp32. bf16 rounds the factors to 8 bits (relative
error of a result about 2.4e-3), and Winograd's transforms cost fp32 about 1e-6. Depthwise
convolutions are bound by memory and stay fp32. The plain reference is `jittor.nn.conv2d`, which
also serves whatever does not fit. Sources: oneDNN 2.6, developer guide, convolution; Lavin and Gray
2015 (https://arxiv.org/abs/1509.09308).
"""

import jittor as jt
from jittor import nn

from kernels import cpu_operator
from runtime import onednn

PRECISIONS = ("bf16", "fp32")
FORWARD, PACK, TO_INPUT, TO_WEIGHT = range(4)  # Task in convolution.hpp
CODE = """
    auto get = [&](const char* name) { return (long)data[name]; };
    fast_convolution::Setting s;
    s.x = {get("batch"), get("channels"), get("height"), get("width")};
    s.w = {get("filters"), get("depth"), get("kernel_h"), get("kernel_w")};
    s.y = {get("batch"), get("filters"), get("out_h"), get("out_w")};
    s.stride = {get("stride_h"), get("stride_w")};
    s.dilation = {get("dilation_h") - 1, get("dilation_w") - 1};
    s.padding = {get("padding_h"), get("padding_w")};
    s.groups = get("groups");
    s.half = get("half");
    fast_convolution::run((fast_convolution::Task)get("task"), s, in0_p, in1_p, out0_p);
"""
Pair = int | tuple[int, int]


def conv2d(
    x: jt.Var,
    weight: jt.Var,
    bias: jt.Var | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
    precision: str = "fp32",
) -> jt.Var:
    """Returns the convolution [N, O, H', W'] of images x[N, C, H, W], all in fp32.

    weight: [O, C / groups, K, K']. bias: [O]. `precision` of the products: "bf16" or "fp32".
    Gradients reach x, weight and bias. The same call on the same number of threads gives the same
    bits; the result of a row depends on the number of the other rows, but not on their values.
    Raises ValueError if shapes do not fit, for other types, with CUDA, or without oneDNN.
    """
    if not cpu_operator.has_onednn():
        raise ValueError(f"convolution: oneDNN is missing: {onednn.REMEDY}")
    if jt.flags.use_cuda:
        raise ValueError("convolution: for the CPU only; use jittor.nn.conv2d with CUDA")
    pairs = _pair(stride), _pair(padding), _pair(dilation)
    y = Convolution(_describe(x, weight, *pairs, groups, precision))(x, weight)
    return y if bias is None else y + bias.broadcast(y.shape, [0, 2, 3])


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _describe(
    x: jt.Var,
    weight: jt.Var,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    precision: str,
) -> dict[str, int]:
    """Returns the numbers that the C++ code reads; raises ValueError if they do not fit."""
    shapes = f"x {tuple(x.shape)}, weight {tuple(weight.shape)}, groups {groups}"
    if str(x.dtype) != "float32" or str(weight.dtype) != "float32":
        raise ValueError(f"convolution: x {x.dtype}, weight {weight.dtype}; both must be float32")
    if precision not in PRECISIONS:
        raise ValueError(f"convolution: precision {precision!r} is none of {PRECISIONS}")
    if len(x.shape) != 4 or len(weight.shape) != 4:
        raise ValueError(f"convolution: {shapes}; both must have four axes")
    (batch, channels, height, width), (filters, depth, *kernel) = x.shape, weight.shape
    if groups < 1 or channels != depth * groups or filters % groups:
        raise ValueError(
            f"convolution: {shapes}; x's channels must be groups times the weight's second axis, "
            "the weight's first axis a multiple of groups"
        )
    out = [
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, p, d, k, s in zip((height, width), padding, dilation, kernel, stride, strict=True)
    ]
    if min(batch, *out) < 1:
        raise ValueError(f"convolution: {shapes}, padding {padding}; nothing is left to compute")
    is_depthwise = depth == 1 and groups > 1
    setting = {"batch": batch, "channels": channels, "height": height, "width": width}
    setting |= {"filters": filters, "depth": depth, "groups": groups}
    setting["half"] = int(precision == "bf16" and not is_depthwise)
    pairs = {"kernel": kernel, "out": out, "stride": stride, "padding": padding}
    pairs["dilation"] = dilation
    for name, (vertical, horizontal) in pairs.items():
        setting |= {f"{name}_h": vertical, f"{name}_w": horizontal}
    return setting


def _run(task: int, setting: dict[str, int], a, b, shape):
    """Runs `fast_convolution::run` once; one compiled operator serves all tasks and shapes."""
    headers = ("onednn", "convolution")
    return cpu_operator.run(headers, CODE, [a, b], shape, setting | {"task": task})


class Convolution(jt.Function):
    """The differentiable function behind `conv2d`, of (x, weight)."""

    def __init__(self, setting: dict[str, int]):
        super().__init__()
        self.setting = setting

    def execute(self, x, weight):
        self.x, self.weight = x, weight
        s = self.setting
        return _run(FORWARD, s, x, weight, (s["batch"], s["filters"], s["out_h"], s["out_w"]))

    def grad(self, dy):
        """Returns (dx, dw) as two operators, so Jittor skips the one that nobody asks for.

        They share the gradient, which `PACK` rearranges once: channels padded to 16, bf16 in pairs.
        """
        s, x, weight = self.setting, self.x, self.weight
        room = -(-s["filters"] // 16) * 16 // (1 + s["half"])
        shape = (s["batch"], room, s["out_h"], s["out_w"])
        packed = _run(PACK, s, dy, weight, shape)
        dx = _run(TO_INPUT, s, packed, weight, x.shape)
        return dx, _run(TO_WEIGHT, s, packed, x, weight.shape)


class FastConv(nn.Conv):
    """`nn.Conv` by `conv2d`; with CUDA or other types than float32 by Jittor's own operators."""

    precision = "fp32"

    def execute(self, x):
        if jt.flags.use_cuda or not x.dtype == self.weight.dtype == "float32":
            return super().execute(x)
        shape = self.stride, self.padding, self.groups, self.dilation
        return conv2d(x, self.weight, self.bias, *shape, self.precision)


def use_fast_convolutions(module: jt.Module, precision: str) -> int:
    """Turns every `nn.Conv` in `module` into a `FastConv`, in place, and returns how many.

    Returns 0 without oneDNN or with CUDA. Names, values and the state dict stay. Subclasses of
    `nn.Conv` are left alone.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"convolution: precision {precision!r} is none of {PRECISIONS}")
    if not cpu_operator.has_onednn() or jt.flags.use_cuda:
        return 0
    layers = [part for part in module.modules() if type(part) in (nn.Conv, FastConv)]
    for layer in layers:
        layer.__class__, layer.precision = FastConv, precision
    return len(layers)

"""Convolutions on the CPU, faster than Jittor's own: oneDNN in its own memory formats, in fp32
with Winograd's algorithm, or in bf16 for processors that multiply it.

Jittor 1.3.11 runs a convolution in fp32, each call with new memory, its backward passes without
Winograd. Here tensors come and go in fp32 and every sum is fp32; bf16 rounds the factors to 8 bits
(relative error of a result about 2.4e-3), Winograd's transforms cost fp32 about 1e-6. Depthwise
convolutions, bound by memory, stay fp32. Sources: oneDNN 2.6, developer guide, convolution; Lavin
and Gray 2015 (https://arxiv.org/abs/1509.09308).
"""

from functools import cache

from kernels import cpu_operator
from kernels.cpu_operator import usable
from runtime import onednn

PRECISIONS = ("bf16", "fp32")
FORWARD, PACK, TO_INPUT, TO_WEIGHT = range(4)  # Task in convolution.hpp
CODE = """
    auto one = [&](const char* name) { return (long)data[name]; };
    fast_convolution::Setting s;
    s.x = {one("batch"), one("channels"), one("height"), one("width")};
    s.w = {one("filters"), one("depth"), one("kernel_h"), one("kernel_w")};
    s.y = {one("batch"), one("filters"), one("out_h"), one("out_w")};
    s.stride = {one("stride_h"), one("stride_w")};
    s.dilation = {one("dilation_h") - 1, one("dilation_w") - 1};
    s.padding = {one("padding_h"), one("padding_w")};
    s.groups = one("groups");
    s.half = one("half");
    fast_convolution::run((fast_convolution::Task)one("task"), s, in0_p, in1_p, out0_p);
"""
Pair = int | tuple[int, int]


def conv2d(
    x,
    weight,
    bias=None,
    stride: Pair = 1,
    padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
    precision: str = "fp32",
):
    """Images [N, C, H, W], weight [O, C / groups, K, K'], bias [O] -> [N, O, H', W'], all fp32.

    `precision` of the products: "bf16" or "fp32". Gradients reach x, weight and bias. The same call
    on the same number of threads gives the same bits; a row's result does not depend on the other
    rows, but on how many there are. Raises ValueError for shapes that do not fit, other types,
    CUDA, or without oneDNN.
    """
    import jittor as jt

    if not usable():
        raise ValueError(f"convolution: oneDNN is missing: {onednn.REMEDY}")
    if jt.flags.use_cuda:
        raise ValueError("convolution: for the CPU only; use jittor.nn.conv2d with CUDA")
    setting = describe(x, weight, pair(stride), pair(padding), groups, pair(dilation), precision)
    y = function()(setting)(x, weight)
    return y if bias is None else y + bias.broadcast(y.shape, [0, 2, 3])


def pair(value: Pair) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def describe(x, weight, stride, padding, groups, dilation, precision) -> dict[str, int]:
    """All that a convolution is known by, as Jittor hands it to the operator."""
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
    return {
        "batch": batch,
        "channels": channels,
        "height": height,
        "width": width,
        "filters": filters,
        "depth": depth,
        "groups": groups,
        "half": int(precision == "bf16" and not (depth == 1 and groups > 1)),
        **{
            f"{name}_{axis}": value
            for name, values in (
                ("kernel", kernel),
                ("out", out),
                ("stride", stride),
                ("padding", padding),
                ("dilation", dilation),
            )
            for axis, value in zip("hw", values, strict=True)
        },
    }


def operator(task: int, setting: dict[str, int], a, b, shape):
    """One run of `fast_convolution::run`; one compiled operator serves all tasks and shapes."""
    return cpu_operator.run(
        ("onednn", "convolution"), CODE, [a, b], shape, setting | {"task": task}
    )


@cache
def function():
    """The differentiable function of (x, weight), a class that is made once Jittor is there."""
    import jittor as jt

    class Convolution(jt.Function):
        def __init__(self, setting: dict[str, int]):
            super().__init__()
            self.setting = setting

        def execute(self, x, weight):
            self.x, self.weight = x, weight
            s = self.setting
            shape = (s["batch"], s["filters"], s["out_h"], s["out_w"])
            return operator(FORWARD, s, x, weight, shape)

        def grad(self, dy):
            """Two operators, so that Jittor never runs the one that nobody asks for; they share
            the gradient as `PACK` laid it out once, channels padded to 16, bf16 in pairs.
            """
            s, x, weight = self.setting, self.x, self.weight
            room = -(-s["filters"] // 16) * 16 // (1 + s["half"])
            shape = (s["batch"], room, s["out_h"], s["out_w"])
            packed = operator(PACK, s, dy, weight, shape)
            return (
                operator(TO_INPUT, s, packed, weight, x.shape),
                operator(TO_WEIGHT, s, packed, x, weight.shape),
            )

    return Convolution


@cache
def layer():
    """`nn.Conv` by this path; Jittor's own way for what it does not take (CUDA, other types)."""
    import jittor as jt
    from jittor import nn

    class Conv(nn.Conv):
        precision = "fp32"

        def execute(self, x):
            if jt.flags.use_cuda or not x.dtype == self.weight.dtype == "float32":
                return super().execute(x)
            return conv2d(
                x,
                self.weight,
                self.bias,
                self.stride,
                self.padding,
                self.groups,
                self.dilation,
                self.precision,
            )

    return Conv


def use_fast(module, precision: str) -> int:
    """Makes every `nn.Conv` in `module` compute so, in place, and returns how many; none without
    oneDNN or with CUDA. Names, values and the state dict stay. Subclasses are left alone.
    """
    import jittor as jt
    from jittor import nn

    if precision not in PRECISIONS:
        raise ValueError(f"convolution: precision {precision!r} is none of {PRECISIONS}")
    if not usable() or jt.flags.use_cuda:
        return 0
    kinds = (nn.Conv, layer())
    found = [part for part in module.modules() if type(part) in kinds]
    for part in found:
        part.__class__, part.precision = layer(), precision
    return len(found)

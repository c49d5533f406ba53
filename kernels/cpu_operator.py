"""Runs C++ operators on the CPU: the headers of this folder, compiled by Jittor at first use."""

import ctypes
from functools import cache
from pathlib import Path

from runtime import onednn

# Of the products of frozen layers: "fp32" or "bf16"; "plain" switches all operators of the kit off.
precision = "fp32"
LANES = 16  # numbers that the operators take at a time; widths must be multiples of it
BF16_ISA = 0x80  # oneDNN's flag for AVX-512 with bf16, which AMX includes


@cache
def has_onednn() -> bool:
    """Returns whether oneDNN's wheels are installed; some operators are compiled against them."""
    return onednn.wheel_files() is not None


@cache
def onednn_isa() -> int:
    """Returns the instruction sets that oneDNN uses here, as a set of its flags.

    It follows the processor and `ONEDNN_MAX_CPU_ISA`. Without oneDNN the result is 0.
    """
    files = onednn.wheel_files()
    return ctypes.CDLL(str(files[1])).dnnl_get_effective_cpu_isa() if files else 0


def multiplies_bf16() -> bool:
    """Returns whether the processor multiplies bf16 itself, by AVX-512-bf16 or AMX.

    With another AVX-512 oneDNN emulates bf16, slower than fp32; older processors have none.
    """
    return bool(onednn_isa() & BF16_ISA)


@cache
def read_headers(names: tuple[str, ...]) -> str:
    """Returns the C++ of these headers, in this order."""
    folder = Path(__file__).parent
    return "\n".join((folder / f"{name}.hpp").read_text(encoding="utf-8") for name in names)


def accepts(*variables) -> bool:
    """Returns whether all are float32 on the CPU, and the operators are not switched off."""
    import jittor as jt

    on = precision != "plain" and not jt.flags.use_cuda
    return on and all(str(variable.dtype) == "float32" for variable in variables)


def are_frozen(*weights) -> bool:
    """Returns whether nobody will ask for gradients of these weights."""
    import jittor as jt

    return bool(jt.flags.no_grad) or all(weight.is_stop_grad() for weight in weights)


def run(headers: tuple[str, ...], code: str, inputs: list, shape, data: dict):
    """Returns a float32 array of this shape, computed by C++; a list for a list of shapes.

    `code` sees the headers, the arrays in0_p, in1_p, ..., out0_p, ... and the numbers `data`.
    One compiled operator serves all shapes.
    """
    import jittor as jt

    shapes = [list(each) for each in (shape if isinstance(shape, list) else [shape])]
    kinds, source, options = ["float32"] * len(shapes), read_headers(headers), {}
    if "onednn" in headers:
        files = onednn.wheel_files()
        assert files is not None  # callers that name this header ask `has_onednn` first
        options = {f"FLAGS: -I{files[0]} ": 1}
    outputs = jt.code(shapes, kinds, inputs, cpu_header=source, cpu_src=code, data=data)
    for output in outputs:
        output.compile_options = options
    return outputs if isinstance(shape, list) else outputs[0]


def function_address(headers: tuple[str, ...], function: str) -> int:
    """Returns the address of a compiled C++ function of these headers, for `ctypes` to call."""
    import jittor as jt

    with jt.flag_scope(use_cuda=0):
        code = f"*out0_p = (int64)&{function};"
        output = jt.code((1,), "int64", [], cpu_header=read_headers(headers), cpu_src=code)
        return int(output.numpy()[0])

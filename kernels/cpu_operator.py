"""Operators for the CPU out of the C++ beside this file, compiled by Jittor when first used."""

import ctypes
from functools import cache
from pathlib import Path

from runtime import onednn

precision = "fp32"  # of the products of frozen layers; plain: Jittor's own operators everywhere
LANES = 16  # numbers that the operators take at a time: widths must be multiples of it
BF16_ISA = 0x80  # oneDNN's flag of AVX-512 with bf16, which AMX includes


@cache
def usable() -> bool:
    """Whether oneDNN's wheels are there, which some operators are compiled against."""
    return onednn.wheel_files() is not None


@cache
def instruction_sets() -> int:
    """oneDNN's own word on the processor, a set of its flags, which also heeds
    `ONEDNN_MAX_CPU_ISA`; 0 without oneDNN.
    """
    files = onednn.wheel_files()
    return ctypes.CDLL(str(files[1])).dnnl_get_effective_cpu_isa() if files else 0


def multiplies_bf16() -> bool:
    """Whether the processor multiplies bf16 itself: AVX-512-bf16 or AMX. With another AVX-512 it is
    emulated, slower than fp32; oneDNN has none for older processors.
    """
    return bool(instruction_sets() & BF16_ISA)


@cache
def text(headers: tuple[str, ...]) -> str:
    """The C++ of these headers, in this order."""
    folder = Path(__file__).parent
    return "\n".join((folder / f"{name}.hpp").read_text(encoding="utf-8") for name in headers)


def taken(*variables) -> bool:
    """Whether the operators take these: float32 on the CPU, where they are not switched off."""
    import jittor as jt

    fast = precision != "plain" and not jt.flags.use_cuda
    return fast and all(str(each.dtype) == "float32" for each in variables)


def frozen(*weights) -> bool:
    """Whether no gradient will be asked of these."""
    import jittor as jt

    return bool(jt.flags.no_grad) or all(weight.is_stop_grad() for weight in weights)


def run(headers: tuple[str, ...], code: str, inputs: list, shape, data: dict):
    """float32 of this shape, or a list of them for a list of shapes, computed by `code`, which sees
    the headers, in0_p, out0_p, ... and the numbers `data`. One compiled operator serves all shapes.
    """
    import jittor as jt

    several = isinstance(shape, list)
    shapes = [list(each) for each in (shape if several else [shape])]
    options = {}
    if "onednn" in headers:
        files = onednn.wheel_files()
        assert files is not None  # whoever names this header asked `usable` first
        options = {f"FLAGS: -I{files[0]} ": 1}
    found = jt.code(
        shapes, ["float32"] * len(shapes), inputs, cpu_header=text(headers), cpu_src=code, data=data
    )
    for each in found:
        each.compile_options = options
    return found if several else found[0]


def address(headers: tuple[str, ...], function: str) -> int:
    """Where the compiled C++ function of these headers lies, for `ctypes` to call."""
    import jittor as jt

    with jt.flag_scope(use_cuda=0):
        code = f"*out0_p = (int64)&{function};"
        found = jt.code((1,), "int64", [], cpu_header=text(headers), cpu_src=code)
        return int(found.numpy()[0])

"""Operators for a GPU out of the C++ beside this file, compiled by Jittor when first used.

`--precision bf16` asks for them. They compile for GPUs from sm_80 on and were computed thread by
thread on a CPU (tests/unit/kernels/test_attention_cuda.py); none has run on a GPU yet, so they
are not
the default.
"""

from kernels import cpu_operator


def taken(*variables) -> bool:
    """Whether the operators take these: float32 on a GPU, where bf16 was asked for."""
    import jittor as jt

    asked = bool(jt.flags.use_cuda) and cpu_operator.precision == "bf16"
    return asked and all(str(each.dtype) == "float32" for each in variables)


def multiplies_bf16() -> bool:
    """Whether all GPUs that Jittor compiles for multiply bf16 in tensor cores: sm_80 and newer."""
    import jittor as jt

    return bool(jt.has_cuda) and all(each >= 80 for each in jt.flags.cuda_archs)


def run(header: str, code: str, inputs: list, shapes: list, data: dict) -> list:
    """float32 arrays of these shapes, computed by `code`, which sees the header, in0_p, out0_p, ...
    and the numbers `data`. One compiled operator serves all shapes.
    """
    import jittor as jt

    shapes = [list(each) for each in shapes]
    return jt.code(
        shapes,
        ["float32"] * len(shapes),
        inputs,
        cuda_header=cpu_operator.text((header,)),
        cuda_src=code,
        data=data,
    )

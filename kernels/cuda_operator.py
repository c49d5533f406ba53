"""Runs CUDA operators: the headers of this folder, compiled by Jittor at first use.

`--precision bf16` asks for them. They compile for GPUs from sm_80 on, and tests computed them
thread by thread on a CPU (tests/unit/kernels/test_attention_cuda.py). None has run on a GPU yet,
so they are not the default.
"""

from kernels import cpu_operator


def accepts(*variables) -> bool:
    """Returns whether all are float32 on a GPU, and `--precision bf16` asked for the operators."""
    import jittor as jt

    on = bool(jt.flags.use_cuda) and cpu_operator.precision == "bf16"
    return on and all(str(variable.dtype) == "float32" for variable in variables)


def multiplies_bf16() -> bool:
    """Returns whether all GPUs that Jittor compiles for multiply bf16 in tensor cores.

    Those are the GPUs from sm_80 on.
    """
    import jittor as jt

    return bool(jt.has_cuda) and all(each >= 80 for each in jt.flags.cuda_archs)


def run(header: str, code: str, inputs: list, shapes: list, data: dict) -> list:
    """Returns float32 arrays of these shapes, computed by CUDA.

    `code` sees the header, the arrays in0_p, ..., out0_p, ... and the numbers `data`. One compiled
    operator serves all shapes.
    """
    import jittor as jt

    shapes, kinds = [list(shape) for shape in shapes], ["float32"] * len(shapes)
    source = cpu_operator.read_headers((header,))
    return jt.code(shapes, kinds, inputs, cuda_header=source, cuda_src=code, data=data)

"""How Jittor computes: its device, the precision of its products, its random state."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import jittor as jt
import numpy as np

from kernels import compiling, cpu_operator, cuda_operator
from runtime.distributed import disable_jittor_averaging

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "bf16", "auto"]
Kernels = Literal["native", "jittor"]


def use_device(
    name: Device, precision: Precision = "fp32", kernels: Kernels = "native"
) -> Literal["cpu", "cuda"]:
    """Switches Jittor to the CPU or to CUDA, and returns which one it is.

    name: "auto" is CUDA if Jittor was built with it.
    precision, of the products of frozen layers: "auto" is bf16 if the CPU multiplies bf16 itself,
    else fp32.
    kernels: "jittor" computes everything with Jittor's own operators, which are fp32.
    Raises ValueError if the machine lacks CUDA or bf16 and they were asked for.
    """
    if name not in get_args(Device):
        raise ValueError(f"device is {name!r}, but must be auto, cpu or cuda")
    if name == "cuda" and not jt.has_cuda:
        raise ValueError("no usable CUDA: `python -m scripts.doctor` says what is missing")
    disable_jittor_averaging()
    compiling.compile_in_parallel()
    chosen: Literal["cpu", "cuda"] = "cuda" if jt.has_cuda and name != "cpu" else "cpu"
    jt.flags.use_cuda = int(chosen == "cuda")
    if chosen == "cuda":
        jt.cudnn.set_max_workspace_ratio(0.05)  # else a quarter of the GPU's memory
    operators = cpu_operator if chosen == "cpu" else cuda_operator
    has_bf16 = operators.multiplies_bf16()
    if precision == "bf16" and kernels == "jittor":
        raise ValueError("precision bf16 needs the kit's own operators: --kernels native")
    if precision == "bf16" and not has_bf16:
        raise ValueError(
            "precision bf16 needs a CPU with AMX or AVX-512-bf16, or a GPU from sm_80 on: "
            "--precision fp32 or auto"
        )
    if precision == "auto":  # no operator for a GPU has run on one yet
        precision = "bf16" if has_bf16 and chosen == "cpu" else "fp32"
    cpu_operator.precision = "plain" if kernels == "jittor" else precision
    return chosen


@contextmanager
def use_precision(precision: str) -> Iterator[None]:
    """Sets the precision inside the block, whatever the machine has."""
    before, cpu_operator.precision = cpu_operator.precision, precision
    try:
        yield
    finally:
        cpu_operator.precision = before


@contextmanager
def without_bf16() -> Iterator[None]:
    """Computes products in fp32 inside the block, if `use_device` chose bf16."""
    with use_precision("fp32" if precision_in_use() == "bf16" else precision_in_use()):
        yield


def precision_in_use() -> str:
    """Returns what `use_device` chose: "fp32", "bf16", or "plain" for Jittor's own operators."""
    return cpu_operator.precision


def set_random_state(*numbers: int) -> None:
    """Sets Jittor's random state from these numbers.

    They are hashed first, because Jittor draws the same numbers after the seeds 0 and 1.
    """
    jt.set_global_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0] >> 1))

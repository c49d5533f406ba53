"""Several operators compiled at once, without the race that Jittor 1.3.11 has there.

Its compiling threads change the lists of one graph with no lock: now and then a process dies, or
compiles an operator for a type of no name. So `runtime.prepare` has operators compiled one by one,
until a process takes `in_parallel`.
"""

import numpy as np

from kernels import cpu_operator

THREADS = 16  # at most, and one for every 3 GiB of memory: Jittor's own default


def in_parallel() -> None:
    """Puts compiling in turn where needed and in parallel elsewhere, for the rest of the process.

    Bytes and names of compiled operators stay as Jittor makes them.
    """
    import jittor as jt

    if jt.flags.use_parallel_op_compiler:
        return
    for kind in (np.float32, np.float64):  # Jittor's operators switch subnormal numbers off, of
        np.finfo(kind)  # which NumPy would warn whoever asks for limits first, such as SciPy
    with jt.flag_scope(use_cuda=0):
        code = "do_compile_hook = compile_in_turn; *out0_p = 1;"
        cpu_operator.run(("compiling",), code, [], (1,), {}).sync()
    jt.flags.use_parallel_op_compiler = THREADS

"""Lets Jittor compile several operators at once, without the race that Jittor 1.3.11 has there.

Its compiling threads change the lists of one graph without a lock. Now and then a process dies, or
compiles an operator for a type without a name. `runtime.prepare` therefore has operators compiled
one by one until `compile_in_parallel` is called.
"""

import numpy as np

from kernels import cpu_operator

THREADS = 16  # Jittor's own default; it takes fewer if there are less than 3 GiB of memory for each


def compile_in_parallel() -> None:
    """Switches parallel compiling on for the rest of the process, with a lock around the graph.

    Code and names of compiled operators stay as Jittor makes them.
    """
    import jittor as jt

    if jt.flags.use_parallel_op_compiler:
        return
    # Jittor's operators switch subnormal numbers off. NumPy warns of that when its limits are first
    # asked for, for example by SciPy, so ask for them before the first operator runs.
    for kind in (np.float32, np.float64):
        np.finfo(kind)
    with jt.flag_scope(use_cuda=0):
        code = "do_compile_hook = compile_in_turn; *out0_p = 1;"
        cpu_operator.run(("compiling",), code, [], (1,), {}).sync()
    jt.flags.use_parallel_op_compiler = THREADS

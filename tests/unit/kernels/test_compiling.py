"""Operators that share their input give right results if they are compiled at the same time."""

import subprocess
import sys

from runtime.paths import ROOT

PROGRAM = """
import runtime
import jittor as jt
from kernels import compiling

print(jt.flags.use_parallel_op_compiler)
compiling.compile_in_parallel()
print(jt.flags.use_parallel_op_compiler)
x, forms = jt.ones((3, 4)), [jt.sin, jt.cos, jt.abs, jt.exp, jt.tanh]
weights = [jt.ones((4, 2)) * i for i in range(len(forms))]
jt.sync(found := [form(x @ weight) for form, weight in zip(forms, weights)])
wanted = [form(jt.ones((3, 2)) * 4 * i) for i, form in enumerate(forms)]
print(all((one == other).all() for one, other in zip(found, wanted)))
"""


def test_one_by_one_until_the_graph_is_guarded():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["0", "16", "True"], done.stderr

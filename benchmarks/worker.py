"""The side of a benchmark that works: runs its ways when told to, in a process of its own.

NumPy only, so that every peer's environment can import it. A way is a function without arguments;
what it returns is NumPy's, so that all is computed when it returns.
"""

import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np

Ways = dict[str, Callable[[], np.ndarray]]
ROWS = 256  # rows of a call, of the text encoder


def random_pixels(batch: int) -> np.ndarray:
    """The images [B,3,224,224] float32 that every image tower is given."""
    return np.random.default_rng(0).normal(0, 1, (batch, 3, 224, 224)).astype("f4")


def serve(benchmarks: dict[str, Callable[..., Ways]], tidy: Callable[[], None]) -> None:
    """Answers on standard output, a JSON line for each line of standard input; `tidy` gives memory
    back after each run, so that one way's does not fail the next.

    argv: the benchmark's name, its settings as JSON, and a folder that all workers share. A line
    read is a way's name and where to save its result, if anywhere; the answer is its seconds.
    """
    name, settings, folder = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print does not mix with the answers
    ways = benchmarks[name](**json.loads(settings), folder=Path(folder))
    print(json.dumps(list(ways)), file=answers, flush=True)
    for line in sys.stdin:
        way, place = json.loads(line)
        started = perf_counter()
        result = ways[way]()
        seconds = perf_counter() - started
        if place:
            np.save(place, result)
        del result
        tidy()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak_mb": peak}), file=answers, flush=True)

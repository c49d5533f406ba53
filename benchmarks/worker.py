"""The working side of a benchmark: runs ways on request, in a process of its own.

It needs NumPy only, so that every peer's environment can import it. A way is a function without
arguments that returns a NumPy array, so all its work is done when it returns.
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
ROWS = 256  # sentences per call of the text encoder


def random_pixels(batch: int) -> np.ndarray:
    """Returns the images [B,3,224,224] float32 that every image tower gets."""
    return np.random.default_rng(0).normal(0, 1, (batch, 3, 224, 224)).astype("f4")


def serve(benchmarks: dict[str, Callable[..., Ways]], tidy: Callable[[], None]) -> None:
    """Answers each JSON line of standard input with a JSON line on standard output.

    sys.argv holds the benchmark's name, its settings as JSON, and a folder that all workers share.
    A request is a way's name and the path for its result, or null. The answer holds the seconds and
    the peak memory. `tidy` returns memory to the system after each run.
    """
    name, settings, folder = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    ways = benchmarks[name](**json.loads(settings), folder=Path(folder))
    print(json.dumps(list(ways)), file=answers, flush=True)
    for line in sys.stdin:
        way, save_to = json.loads(line)
        started = perf_counter()
        result = ways[way]()
        seconds = perf_counter() - started
        if save_to:
            np.save(save_to, result)
        del result
        tidy()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak_mb": peak}), file=answers, flush=True)

"""What `scripts/check_device.py` and its parts share: one check, its inputs, its tolerances."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import jittor as jt
import numpy as np

EXACT = 0.0  # indices and copies
FLOAT32 = 1e-4  # sums of up to 1,000 terms in float32
FAST_MATH = 1e-3  # CUDA kernels are compiled with --use_fast_math
TF32 = 5e-3  # 10 bits of mantissa
FLOAT16 = 5e-3  # 10 bits of mantissa, inputs rounded once
BFLOAT16 = 3e-2  # 7 bits of mantissa, inputs rounded once
BFLOAT16_CPU = 0.3  # Jittor's CPU kernel also accumulates in bfloat16


@dataclass(frozen=True)
class Check:
    name: str
    run: Callable[[], jt.Var]
    expected: np.ndarray
    tolerance: float

    def passes(self) -> bool:
        """Runs the check and prints its line."""
        started = time.monotonic()
        try:
            result = self.run().float32().numpy()
            scale = np.abs(self.expected).max() + 1e-12
            error = float(np.abs(result - self.expected).max() / scale)
            good = result.shape == np.shape(self.expected) and error <= self.tolerance
            words = f"{error:.2g}"
        except Exception as problem:  # one failing kernel must not hide the state of the others
            good, words = False, " ".join(str(problem)[-300:].split())
        print(f"{'ok ' if good else 'BAD'}  {self.name:<28} {words}", end="", flush=True)
        print(f"  {time.monotonic() - started:.1f} s", flush=True)
        return good


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal float32 values, the same on every call with the same arguments."""
    return np.random.RandomState(seed).randn(*shape).astype(np.float32)


def softmax(x: np.ndarray) -> np.ndarray:
    shifted = np.exp(x - x.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)

"""What public reference code found (`tests/golden/baselines/make.py`), for several tests."""

from functools import cache

import numpy as np

from runtime.paths import ROOT


@cache
def golden(name: str) -> dict[str, np.ndarray]:
    """The arrays of tests/golden/baselines/`name`.npz."""
    with np.load(ROOT / f"tests/golden/baselines/{name}.npz") as stored:
        return dict(stored)

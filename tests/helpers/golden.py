"""Golden files: outputs of the authors' own code, written by the `make.py` in their folder."""

from functools import cache

import numpy as np

from runtime.paths import ROOT

GOLDEN = ROOT / "tests/golden"


@cache
def load_golden(name: str) -> dict[str, np.ndarray]:
    """Returns the arrays of tests/golden/`name`.npz, such as "baselines/losses"."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)

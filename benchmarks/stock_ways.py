"""The public JCLIP on Jittor's own operators, for `benchmarks/bench.py image` and `text`.

JCLIP (github.com/uyzhang/JCLIP) is imported out of a checkout.
"""

import runtime  # noqa: F401, I001  (prepares Jittor before its first import)
import importlib
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import jittor as jt
import numpy as np

from benchmarks.worker import ROWS, Ways, random_pixels, serve
from benchmarks.seeded_inputs import VIT_B32

NAME = "JCLIP, stock Jittor, fp32"


def build_clip(checkout: Path) -> Any:
    """Returns JCLIP's model with random weights; runs no other module of the checkout."""
    package = ModuleType("public")
    package.__path__ = [str(checkout / "jclip")]
    sys.modules["public"] = package
    jt.set_global_seed(0)
    model = importlib.import_module("public.model").CLIP(**VIT_B32)
    for parameter in model.parameters():  # some come uninitialised
        parameter.assign(jt.randn(parameter.shape) * 0.02)
    return model.eval()


def image(checkout: Path, batch: int, folder: Path) -> Ways:
    """Returns the image tower."""
    model = build_clip(checkout)
    pixels = jt.array(random_pixels(batch))

    def encode() -> np.ndarray:
        with jt.no_grad():
            return model.encode_image(pixels).numpy()

    return {NAME: encode}


def text(checkout: Path, sentences: int, folder: Path) -> Ways:
    """Returns the text tower, which always reads 77 tokens."""
    model = build_clip(checkout)
    tokens = np.load(folder / "tokens.npy")

    def encode() -> np.ndarray:
        with jt.no_grad():
            calls = [jt.array(tokens[i : i + ROWS]) for i in range(0, len(tokens), ROWS)]
            return np.concatenate([model.encode_text(call).numpy() for call in calls])

    return {f"{NAME}, 77 tokens": encode}


if __name__ == "__main__":
    checkout = Path(sys.argv.pop())
    serve({"image": partial(image, checkout), "text": partial(text, checkout)}, jt.gc)

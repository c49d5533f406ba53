"""Writes published.npz and paper.npz: LP++ as its authors' public code updates it.

Run this by hand, in an environment of its own without Jittor:

    git clone https://github.com/FereshteShakeri/FewShot-CLIP-Strong-Baseline PUBLIC
    pip install torch==2.13.0 numpy scipy matplotlib tqdm
    python -m tests.golden.head.make PUBLIC

It runs the public `LinearProbe_P2` itself, on seeded features in a narrow cone, and stores the
classifier and alpha after 1, 2, 3 and 30 updates. The code was written for CUDA and float16; here
`.cuda()` does nothing, the one-hot matrix is float32, and the bias starts at 0 instead of torch's
random start. paper.npz comes from the same code with one line changed: alpha's gradient is cleared
together with the classifier's. The code moves alpha at every tenth iteration, so the two files
differ from the tenth on.
"""

import argparse
import importlib
import sys
import types
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).resolve().parent
CLASSES, SHOTS, WIDTH = 6, 3, 16
STEPS = (1, 2, 3, 30)
LINE = "optimizer.zero_grad()"  # of the public code
MENDED = {"published": LINE, "paper": f"{LINE}; alpha_vec.grad = None"}


def inputs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns unit rows features[N,E], labels[N], and unit rows text[C,E] in another cone."""
    random = np.random.default_rng(0)
    images, texts = 3 * random.standard_normal((2, WIDTH))
    centres = random.standard_normal((CLASSES, WIDTH))
    labels = np.arange(CLASSES).repeat(SHOTS)
    features = images + centres[labels] + random.standard_normal((len(labels), WIDTH))
    text = texts + centres + random.standard_normal((CLASSES, WIDTH))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (features, text)]
    return unit[0].astype(np.float32), labels, unit[1].astype(np.float32)


def public_module(folder: Path, form: str) -> types.ModuleType:
    """Imports `methods/linear_probe_p2.py` alone, changed to run on the CPU.

    The line LINE becomes the one of `form`.
    """
    package = types.ModuleType("methods")
    package.__path__ = [str(folder / "methods")]
    sys.modules["methods"] = package
    torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *_: self
    vars(importlib.import_module("methods.utils"))["get_one_hot"] = lambda labels, num_classes: (
        torch.nn.functional.one_hot(labels, num_classes).float()
    )
    source = (folder / "methods/linear_probe_p2.py").read_text()
    if source.count(LINE) != 1:
        raise ValueError(f"{folder}: {LINE!r} must stand once in methods/linear_probe_p2.py")
    module = types.ModuleType("methods.linear_probe_p2")
    exec(source.replace(LINE, MENDED[form]), vars(module))
    return module


def trained(module: types.ModuleType, steps: int) -> dict[str, np.ndarray]:
    """Returns weight, bias and alpha after `steps` updates of the public code."""
    features, labels, text = (torch.from_numpy(array) for array in inputs())
    kept = {}

    def linear(*arguments, **settings):
        kept["linear"] = torch.nn.Linear(*arguments, **settings)
        torch.nn.init.zeros_(kept["linear"].bias)
        return kept["linear"]

    def variable(values, **settings):
        kept["alphas"] = values.detach().float().requires_grad_()
        return kept["alphas"]

    vars(module).update(nn=types.SimpleNamespace(Linear=linear), Variable=variable)
    settings = {"train_epoch": steps, "shots": SHOTS, "dataset": "", "output_dir": ""}
    loader = [(features, labels)]
    model = types.SimpleNamespace(encode_image=lambda rows: rows.clone(), dtype=torch.float32)
    probe = module.LinearProbe_P2(settings)
    probe(loader, loader, features, labels, text.T.contiguous(), model, None)
    return {
        f"weights_{steps}": kept["linear"].weight.detach().numpy(),
        f"bias_{steps}": kept["linear"].bias.detach().numpy(),
        f"alphas_{steps}": kept["alphas"].detach().numpy()[0],
    }


def main() -> None:
    """Writes the golden files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("public", type=Path, help="folder of the public code")
    folder = parser.parse_args().public
    features, labels, text = inputs()
    for form in MENDED:
        module = public_module(folder, form)
        arrays = {"features": features, "labels": labels, "text": text, "steps": np.array(STEPS)}
        for steps in STEPS:
            arrays |= trained(module, steps)
        np.savez(FOLDER / f"{form}.npz", **arrays)


if __name__ == "__main__":
    main()

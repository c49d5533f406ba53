"""Writes the golden files of the baselines, by public reference code.

They hold losses, an optimizer, running averages, schedules and image operations. Run this by hand,
in an environment of its own without Jittor:

    git clone https://github.com/lenscloth/RKD
    git clone https://github.com/facebookresearch/deit
    git clone https://github.com/sthalles/SimCLR
    git clone https://github.com/kekmodel/FixMatch-pytorch
    git clone https://github.com/facebookresearch/moco-v3
    pip install torch==2.13.0 torchvision==0.28.0 pillow==13.0.0
    python -m tests.golden.baselines.make FOLDER

FOLDER holds the five checkouts under these names. Everything but the images runs in float64. Only
the lines that take part are read from SimCLR, FixMatch and MoCo's main file, because these files
import data sets and loggers.
"""

import argparse
import ast
import contextlib
import importlib.util
import math
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision.transforms.functional as images
from PIL import Image
from torch.nn import functional
from torchvision.transforms import InterpolationMode, RandAugment
from torchvision.transforms.autoaugment import _apply_op

FOLDER = Path(__file__).resolve().parent
ROWS, CLASSES, STUDENT, TEACHER = 6, 5, 7, 4
LEVELS = (9, 17, 30)  # of RandAugment
COUNTER = "num_batches_tracked"  # a buffer of torch's BatchNorm that Jittor's has not


def module(path: Path) -> types.ModuleType:
    """Imports a file as a module that can import its neighbours."""
    with contextlib.ExitStack() as undo:
        sys.path.insert(0, str(path.parents[1]))
        undo.callback(sys.path.pop, 0)
        spec = importlib.util.spec_from_file_location(f"public_{path.stem}", path)
        assert spec and spec.loader  # of every file that ends in .py
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
    return made


def lines(path: Path, wanted: Callable[[ast.AST], bool], names: dict) -> None:
    """Runs the statements of a file that `wanted` selects. Raises ValueError if there are none."""
    nodes = ast.walk(ast.parse(path.read_text()))
    found = [node for node in nodes if isinstance(node, ast.stmt) and wanted(node)]
    if not found:
        raise ValueError(f"{path}: the lines that were there are not")
    exec(compile(ast.Module(found, []), str(path), "exec"), names)


def assigns(*targets: str) -> Callable[[ast.AST], bool]:
    """Whether a statement assigns to one of these names."""
    return lambda node: isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in targets


def defines(name: str) -> Callable[[ast.AST], bool]:
    """Whether a statement defines the function `name`."""
    return lambda node: isinstance(node, ast.FunctionDef) and node.name == name


def references(folder: Path) -> dict[str, tuple[Callable, tuple[str, ...]]]:
    """Returns {name: (loss of tensors, the names of its inputs, the trained ones first)}."""
    rkd, deit = module(folder / "RKD/metric/loss.py"), module(folder / "deit/losses.py")
    simclr: dict = {"torch": torch, "F": functional}
    lines(folder / "SimCLR/simclr.py", defines("info_nce_loss"), simclr)

    def nt_xent(first, second):
        chosen = types.SimpleNamespace(batch_size=ROWS, n_views=2, device="cpu", temperature=0.5)
        logits, labels = simclr["info_nce_loss"](
            types.SimpleNamespace(args=chosen), torch.cat([first, second])
        )
        return functional.cross_entropy(logits, labels)

    def distilled(kind: str) -> Callable:
        def run(student, teacher):
            loss = deit.DistillationLoss(lambda *_: 0.0, lambda _: teacher, kind, 1.0, 3.0)
            return loss(None, (student, student), None)

        return run

    def fixmatch(strong, weak):
        held = {"torch": torch, "F": functional, "logits_u_w": weak, "logits_u_s": strong}
        held["args"] = types.SimpleNamespace(T=0.7, threshold=0.6)
        wanted = assigns("pseudo_label", "(max_probs, targets_u)", "mask", "Lu")
        lines(folder / "FixMatch-pytorch/train.py", wanted, held)
        return held["Lu"]

    def smoothed(logits):
        labels = torch.arange(ROWS) % CLASSES
        return functional.cross_entropy(logits, labels, label_smoothing=0.1)

    return {
        "nt_xent": (nt_xent, ("student", "other")),
        "soft": (distilled("soft"), ("logits", "guide")),
        "hard": (distilled("hard"), ("logits", "guide")),
        "fixmatch": (fixmatch, ("logits", "guide")),
        "smoothed": (smoothed, ("logits",)),
        "rkd_distance": (rkd.RkdDistance(), ("student", "teacher")),
        "rkd_angle": (rkd.RKdAngle(), ("student", "teacher")),
    }


def inputs() -> dict[str, dict[str, np.ndarray]]:
    """Returns the cases: `plain`, `pair` (two equal rows of the student), `same` (all equal)."""
    random = np.random.default_rng(6)
    shapes = {"student": STUDENT, "other": STUDENT, "teacher": TEACHER}
    plain = {name: random.normal(size=(ROWS, width)) for name, width in shapes.items()}
    plain |= {name: 3 * random.normal(size=(ROWS, CLASSES)) for name in ("logits", "guide")}
    plain = {name: array.astype(np.float32) for name, array in plain.items()}  # exact for both
    pair, same = dict(plain), dict(plain)
    for name in ("student", "other", "logits"):
        pair[name] = plain[name][[0, 0, *range(2, ROWS)]]
        same[name] = plain[name][[0] * ROWS]
    return {"plain": plain, "pair": pair, "same": same}


def losses(folder: Path) -> dict[str, np.ndarray]:
    """Returns inputs, values and gradients of the first input (of both views for NT-Xent)."""
    found: dict[str, np.ndarray] = {}
    for case, arrays in inputs().items():
        found |= {f"{case}.{name}": array for name, array in arrays.items()}
        for loss, (run, names) in references(folder).items():
            taken = [torch.from_numpy(arrays[name]).double() for name in names]
            trained = taken[: 2 if loss == "nt_xent" else 1]
            for tensor in trained:
                tensor.requires_grad_(True)
            value = run(*taken)
            value.backward()
            found[f"{case}.{loss}.value"] = value.detach().numpy()
            for name, tensor in zip(names, trained, strict=False):
                found[f"{case}.{loss}.{name}"] = tensor.grad.numpy()
    return found


def training(folder: Path) -> dict[str, np.ndarray]:
    """Returns LARS, the running average and the cosine with warm-up over a few steps."""
    lars = module(folder / "moco-v3/moco/optimizer.py").LARS
    random = np.random.default_rng(7)
    steps, shapes = 6, {"weight": (4, 3), "bias": (4,), "zero": (2, 3), "kernel": (2, 3, 3, 3)}
    start = {name: random.normal(size=shape) for name, shape in shapes.items()}
    start["zero"] *= 0
    grads = {name: random.normal(size=(steps, *shape)) for name, shape in shapes.items()}
    grads["zero"][:2] = 0  # no weight and no gradient, then no weight, then both
    found = {f"start.{name}": a.astype(np.float32) for name, a in start.items()}
    found |= {f"grads.{name}": a.astype(np.float32) for name, a in grads.items()}
    weights = {name: torch.from_numpy(found[f"start.{name}"]).double() for name in shapes}
    optimizer = lars(weights.values(), lr=0.5, weight_decay=0.01, momentum=0.9)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.5 / (step + 1)
        for name, weight in weights.items():
            weight.grad = torch.from_numpy(found[f"grads.{name}"][step]).double()
        optimizer.step()
    found |= {f"lars.{name}": weight.numpy() for name, weight in weights.items()}
    return found | average(folder) | schedule(folder)


def average(folder: Path) -> dict[str, np.ndarray]:
    """Returns FixMatch's average of a linear layer and a BatchNorm over these weights."""
    random = np.random.default_rng(8)
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).double()
    states = [
        {
            name: random.normal(size=value.shape).astype(np.float32)
            for name, value in net.state_dict().items()
            if not name.endswith(COUNTER)
        }
        for _ in range(4)
    ]

    def set_to(state: dict) -> None:
        arrays = {name: torch.from_numpy(a).double() for name, a in state.items()}
        net.load_state_dict(arrays, strict=False)  # without COUNTER

    set_to(states[0])
    chosen = types.SimpleNamespace(device="cpu")
    held = module(folder / "FixMatch-pytorch/models/ema.py").ModelEMA(chosen, net, 0.9)
    for state in states[1:]:
        set_to(state)
        held.update(net)
    found = {f"states.{i}.{name}": a for i, state in enumerate(states) for name, a in state.items()}
    averages = held.ema.state_dict()
    return found | {f"ema.{name}": averages[name].numpy() for name in states[0]}


def schedule(folder: Path) -> dict[str, np.ndarray]:
    """Returns MoCo v3's rate at 40 steps, 8 of them warm-up, and torch's cosine from .6 to .001."""
    names: dict = {"math": math}
    lines(folder / "moco-v3/main_moco.py", defines("adjust_learning_rate"), names)
    holder = types.SimpleNamespace(param_groups=[{}])
    chosen = types.SimpleNamespace(warmup_epochs=8, epochs=40, lr=0.6)
    rates = [names["adjust_learning_rate"](holder, step, chosen) for step in range(41)]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.6)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40, eta_min=0.001)
    floored = []
    for _ in range(41):
        floored.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()
    return {"moco": np.array(rates), "cosine": np.array(floored)}


def pictures() -> dict[str, np.ndarray]:
    """Returns an image and what torchvision makes of it."""
    random = np.random.default_rng(9)
    coarse = Image.fromarray(random.integers(0, 256, (6, 5, 3), dtype=np.uint8))
    fine = np.asarray(coarse.resize((20, 24), Image.Resampling.BICUBIC)).astype(int)
    pixels = (fine * 0.8 + 20 + random.integers(-9, 10, fine.shape)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    found = {"image": pixels}

    def keep(name: str, result: Image.Image) -> None:
        found[name] = np.asarray(result)

    space = RandAugment()._augmentation_space(31, (image.height, image.width))
    for name, (amounts, signed) in space.items():
        for level in LEVELS if amounts.ndim else (0,):
            amount = float(amounts[level] if amounts.ndim else amounts)
            for sign in (1, -1) if signed else (1,):
                made = _apply_op(image, name, sign * amount, InterpolationMode.NEAREST, None)
                keep(f"{name}.{level * sign}", made)
    for factor in (0.2, 0.7, 1.8):
        keep(f"brightness.{factor}", images.adjust_brightness(image, factor))
        keep(f"contrast.{factor}", images.adjust_contrast(image, factor))
        keep(f"saturation.{factor}", images.adjust_saturation(image, factor))
    for share in (-0.2, -0.07, 0.03, 0.5):
        keep(f"hue.{share}", images.adjust_hue(image, share))
    for sigma, size in ((0.1, 3), (0.8, 3), (1.7, 9)):
        keep(f"blur.{sigma}.{size}", images.gaussian_blur(image, size, sigma))
    keep("greyscale", images.to_grayscale(image, 3))
    keep("solarise.128", images.solarize(image, 128))
    keep("pad.reflect", images.pad(image, 4, padding_mode="reflect"))
    keep("pad.zero", images.pad(image, 4))
    norm = images.normalize(images.to_tensor(image), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    found["normalised"] = norm.numpy()
    return found


def main() -> None:
    """Writes the golden files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds the five checkouts")
    folder = parser.parse_args().folder
    warnings.filterwarnings("ignore", ".*elementwise_mean")  # RKD's old name of the mean
    found = {"losses": losses(folder), "training": training(folder), "images": pictures()}
    for name, arrays in found.items():
        np.savez_compressed(FOLDER / f"{name}.npz", **arrays)


if __name__ == "__main__":
    main()

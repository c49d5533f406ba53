"""Writes features.npz: features of a ResNet-50 that is written out in torch.

    PEER/bin/python -m tests.golden.moco.make

PEER is an environment with torch, NumPy and Pillow, without Jittor. The network is the ResNet-50 of
torchvision and of MoCo v3, "v1.5": the stride of a stage is in the 3x3 convolution of its first
block. Both sides draw weights and images from a seed (`benchmarks/seeded_inputs.py`).
"""

import os
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from benchmarks.seeded_inputs import seeded_images, seeded_weight

FILE = Path(__file__).resolve().parent / "features.npz"
SEED = 1000
IMAGES, RESOLUTION = 2, 224
KEPT = 64  # stored features per image, next to the norm of all
BLOCKS = (3, 4, 6, 3)  # blocks per stage


def normed_convolution(
    x: torch.Tensor, outputs: int, side: int, stride: int, conv: str, norm: str
) -> torch.Tensor:
    """Applies a convolution with padding side // 2, then batch norm by running statistics."""

    def weight(name: str, *shape: int) -> torch.Tensor:
        return torch.from_numpy(seeded_weight(name, shape, SEED))

    kernel = weight(f"{conv}.weight", outputs, x.shape[1], side, side)
    x = functional.conv2d(x, kernel, stride=stride, padding=side // 2)
    kinds = ("running_mean", "running_var", "weight", "bias")
    return functional.batch_norm(x, *(weight(f"{norm}.{kind}", outputs) for kind in kinds))


def block(x: torch.Tensor, inner: int, stride: int, name: str, first: bool) -> torch.Tensor:
    """Applies a residual block of three convolutions; its shortcut may have a fourth."""
    inside = normed_convolution(x, inner, 1, 1, f"{name}.conv1", f"{name}.bn1").relu()
    inside = normed_convolution(inside, inner, 3, stride, f"{name}.conv2", f"{name}.bn2").relu()
    inside = normed_convolution(inside, 4 * inner, 1, 1, f"{name}.conv3", f"{name}.bn3")
    if first:
        conv, norm = f"{name}.downsample.0", f"{name}.downsample.1"
        x = normed_convolution(x, 4 * inner, 1, stride, conv, norm)
    return (inside + x).relu()


def resnet50(x: torch.Tensor) -> torch.Tensor:
    """Maps images [B,3,224,224] to features [B,2048]."""
    x = normed_convolution(x, 64, 7, 2, "conv1", "bn1").relu()
    x = functional.max_pool2d(x, 3, stride=2, padding=1)
    for stage, blocks in enumerate(BLOCKS):
        for place in range(blocks):
            stride = 2 if stage > 0 and place == 0 else 1
            x = block(x, 64 << stage, stride, f"layer{stage + 1}.{place}", place == 0)
    return x.mean(dim=(2, 3))


def main() -> None:
    """Writes the golden file."""
    images = torch.from_numpy(seeded_images(IMAGES, RESOLUTION, SEED))
    with torch.inference_mode():
        features = resnet50(images).numpy()
    temporary = FILE.with_name(f".{FILE.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        norms = np.linalg.norm(features, axis=1)
        np.savez_compressed(file, features=features[:, :KEPT], norms=norms, seed=SEED)
    os.replace(temporary, FILE)
    print(f"{FILE.name}: {FILE.stat().st_size} bytes, norms {norms}")


if __name__ == "__main__":
    main()

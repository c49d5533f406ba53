"""Writes the golden files of the backbones: outputs and names of torchvision's and timm's networks.

    PEER/bin/python -m tests.golden.networks.make

PEER is an environment with torch, torchvision, timm and NumPy, without Jittor. Both sides draw
weights and images from a seed (`benchmarks/seeded_inputs.py`). The files were made with torch
2.13.0, torchvision 0.28.0 and timm 1.0.31.
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from timm.layers import resample_abs_pos_embed
from timm.models.deit import VisionTransformerDistilled
from torch import nn

from benchmarks.seeded_inputs import seeded_images, seeded_weight

FOLDER = Path(__file__).resolve().parent
SEED = 2606
CLASSES = 10
SMALL_VIT = {"img_size": 32, "patch_size": 8}
TINY_DEIT = {"img_size": 8, "patch_size": 4, "depth": 1, "embed_dim": 12, "num_heads": 3}
CONVOLUTIONS = ("resnet18", "resnet50", "resnet101") + tuple(
    f"efficientnet_b{size}" for size in range(5)
)
TRANSFORMERS = {  # our names, timm's
    "vit_tiny": "vit_tiny_patch16_224",
    "vit_small": "vit_small_patch16_224",
    "vit_base": "vit_base_patch16_224",
    "deit_tiny": "deit_tiny_distilled_patch16_224",
    "deit_small": "deit_small_distilled_patch16_224",
    "deit_base": "deit_base_distilled_patch16_224",
}
# Cases: our network, image size, images, options of the peer, and whose gradients are stored.
CASES: dict[str, tuple[str, int, int, dict[str, Any], tuple[str, ...]]] = {
    "resnet18": ("resnet18", 64, 8, {}, ("conv1", "layer1.0.bn1", "layer4.0.downsample.0", "fc")),
    "resnet18_small": ("resnet18", 16, 8, {}, ("conv1", "layer2.1.conv1", "layer4.1.bn2", "fc")),
    "resnet50": ("resnet50", 64, 8, {}, ("conv1", "layer2.0.conv2", "layer4.2.bn3", "fc")),
    "efficientnet_b0": (
        "efficientnet_b0",
        64,
        8,
        {"dropout": 0.0, "stochastic_depth_prob": 0.0},
        ("features.0.0", "features.2.0.block.2.fc1", "features.6.1.block.1.0", "classifier.1"),
    ),
    "efficientnet_b4": ("efficientnet_b4", 64, 2, {}, ()),
    "vit_tiny": (
        "vit_tiny",
        32,
        4,
        SMALL_VIT,
        ("patch_embed.proj", "blocks.0.attn.qkv", "blocks.7.mlp.fc1", "norm", "head"),
    ),
    "deit_tiny": (
        "deit_tiny",
        32,
        4,
        SMALL_VIT,
        ("patch_embed.proj", "blocks.3.norm1", "blocks.11.attn.proj", "head_dist"),
    ),
}
# So deep a network with random weights is chaotic (torch in fp32 is 40 % off its float64) unless
# its blocks add less to their input.
GAINS = {"efficientnet_b4": 0.5}


def peer(name: str, classes: int, **options) -> nn.Module:
    """Builds torchvision's or timm's network."""
    if name in TRANSFORMERS:
        return timm.create_model(TRANSFORMERS[name], num_classes=classes, **options)
    return getattr(torchvision.models, name)(num_classes=classes, **options)


def fill(model: nn.Module, seed: int, gain: float = 1.0) -> None:
    """Sets seeded weights; convolutions and matrices are multiplied by `gain`."""
    state = {
        name: (gain if value.ndim > 1 else 1.0)
        * torch.from_numpy(np.array(seeded_weight(name, tuple(value.shape), seed)))
        if value.dtype.is_floating_point
        else value
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(state)


def features_of(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Returns the classifier's input [B,width]."""
    if hasattr(model, "forward_head"):
        return model.forward_head(model.forward_features(images), pre_logits=True)
    last = "fc" if hasattr(model, "fc") else "classifier"
    body = nn.Sequential(*[part for name, part in model.named_children() if name != last])
    return body(images).flatten(1)


def outcome(case: str) -> dict[str, np.ndarray]:
    """Returns features and logits in evaluation, then the results of one training step."""
    name, size, count, options, grads = CASES[case]
    model = peer(name, CLASSES, **options)
    if case.endswith("_small"):
        model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    fill(model, SEED, GAINS.get(case, 1.0))
    images = torch.from_numpy(seeded_images(count, size, SEED))
    labels = torch.arange(count) % CLASSES
    with torch.no_grad():
        model.eval()
        result = {"features": features_of(model, images), "logits": model(images)}
    if grads:
        model.train()
        if name.startswith("deit"):
            model.set_distilled_training(True)
        outputs = model(images)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        losses = [nn.functional.cross_entropy(o, labels) for o in outputs]
        sum(losses).backward()
        result |= {f"trained_logits_{i}": output.detach() for i, output in enumerate(outputs)}
        parameters = dict(model.named_parameters())
        tokens = [part for part in ("cls_token", "dist_token", "pos_embed") if part in parameters]
        for part in [f"{part}.weight" for part in grads] + tokens:
            result[f"gradient.{part}"] = parameters[part].grad.norm()
        for part, value in model.named_buffers():
            if "running" in part:
                result[f"after.{part}"] = value[:4]
    return {part: value.numpy() for part, value in result.items()}


def names() -> dict[str, np.ndarray]:
    """Returns lines of "name shape" per network, as stored in public files."""
    result = {}
    for name in (*CONVOLUTIONS, *TRANSFORMERS):
        with torch.device("meta"):
            state = peer(name, 1000).state_dict()
        lines = [
            f"{part} {tuple(v.shape)}" for part, v in state.items() if "num_batches" not in part
        ]
        result[name] = np.array("\n".join(sorted(lines)))
    return result


def positions() -> dict[str, np.ndarray]:
    """Returns position embeddings of a 6 x 6 grid and two tokens, resized by timm."""
    embedding = torch.from_numpy(
        np.random.default_rng(SEED).standard_normal((1, 38, 5), np.float32)
    )
    sides = {f"side_{n}": resample_abs_pos_embed(embedding, [n, n], [6, 6], 2) for n in (4, 9)}
    return {part: value.numpy() for part, value in (sides | {"embedding": embedding}).items()}


def write(name: str, arrays: dict[str, np.ndarray]) -> None:
    """Writes one golden file."""
    path = FOLDER / f"{name}.npz"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(temporary, path)
    print(f"{path.name}: {path.stat().st_size} bytes, {len(arrays)} arrays")


def main() -> None:
    """Writes all golden files."""
    for case in sys.argv[1:] or CASES:
        write(case, outcome(case))
    write("names", names())
    write("positions", positions())
    tiny = VisionTransformerDistilled(num_classes=3, **TINY_DEIT)
    fill(tiny, SEED)
    torch.save(tiny.state_dict(), FOLDER / "tiny_deit.pth")
    old = {"_use_new_zipfile_serialization": False}
    torch.save({"model": tiny.state_dict()}, FOLDER / "tiny_deit_legacy.pth", **old)


if __name__ == "__main__":
    main()

"""Writes step.npz: one training step of CLIP-LoRA by its authors' public code.

Run this by hand, in an environment of its own without Jittor:

    git clone https://github.com/MaxZanella/CLIP-LoRA CLIP_LORA
    pip install torch==2.13.0 torchvision==0.28.0 numpy pillow ftfy regex tqdm
    python -m tests.golden.lora.make CLIP_LORA

The step is that of ViT-B/32 at full size, in fp32 on the CPU, with seeded weights. CLIP_LORA holds
a copy of OpenAI's CLIP with its ViT unchanged. A starts by the rule of `models.lora`. B does not
start at 0, which would hide the gradient of A. Dropout is switched off after the layers are built:
with a rate of 0 from the start, the public layers remove LoRA's change from the weight before the
backward pass reads it. Gradients through a layer would then be off by up to 6 %.
"""

import argparse
import contextlib
import io
import json
import sys
import types
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import clip_peer, seeded_inputs

FILE = Path(__file__).resolve().parent / "step.npz"
CLASSES = ("cat", "dog", "red car", "golden gate bridge", "Audi S5 Convertible 2012")
LABELS = np.array([1, 4, 0, 2], np.int32)  # one for each image
ENTRIES = 16  # stored entries per array
SETTINGS: dict[str, Any] = {
    "seed": 2024,
    "rank": 2,
    "first_b": 0.1,  # factor on the seeded B
    "lr": 2e-4,
    "weight_decay": 1e-2,
    "betas": (0.9, 0.999),
    "sizes": seeded_inputs.VIT_B32,
}


def adapted(folder: Path, model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Puts the public adapters into the model; returns A and B under the kit's names."""
    sys.path.insert(0, str(folder))
    from loralib.utils import apply_lora, mark_only_lora_as_trainable

    arguments = types.SimpleNamespace(
        encoder="both",
        position="all",
        backbone="ViT-B/32",
        params=["q", "k", "v"],
        r=SETTINGS["rank"],
        alpha=1,
        dropout_rate=0.25,
    )
    with contextlib.redirect_stdout(io.StringIO()):  # it prints every block
        apply_lora(arguments, model)
    mark_only_lora_as_trainable(model)
    model.train()
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    return {
        f"{tower}.{i}.{target}.{letter}": getattr(
            getattr(block.attn, f"{target}_proj"), f"w_lora_{letter}"
        )
        for tower, part in (("image", model.visual), ("text", model))
        for i, block in enumerate(part.transformer.resblocks)
        for target in "qkv"
        for letter in "AB"
    }


def first_values(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Returns A as `models.lora` draws it, and B as the seeded weights are drawn."""
    if name.endswith("B"):
        seeded = seeded_inputs.seeded_weight(name, shape, SETTINGS["seed"])
        return torch.from_numpy(seeded * np.float32(SETTINGS["first_b"]))
    random = np.random.default_rng((SETTINGS["seed"], zlib.crc32(name[:-2].encode())))
    bound = np.float32(shape[1] ** -0.5)
    return torch.from_numpy((random.random(shape, dtype=np.float32) * 2 - 1) * bound)


def logits_of(model: torch.nn.Module, images: np.ndarray, tokens: np.ndarray) -> torch.Tensor:
    """Returns 100 times the cosines, [B,C]."""
    image = model.encode_image(torch.from_numpy(images))
    text = model.encode_text(torch.from_numpy(tokens))
    image, text = (x / x.norm(dim=-1, keepdim=True) for x in (image, text))
    return 100 * image @ text.T


def main() -> None:
    """Writes the golden file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip_lora", type=Path, help="checkout of MaxZanella/CLIP-LoRA")
    folder, seed = parser.parse_args().clip_lora, SETTINGS["seed"]
    clip = clip_peer.openai_package(folder)
    model = clip_peer.openai_model(clip, SETTINGS["sizes"], seed)
    parameters = adapted(folder, model)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(first_values(name, tuple(parameter.shape)))
    images = seeded_inputs.seeded_images(len(LABELS), SETTINGS["sizes"]["image_resolution"], seed)
    tokens = clip.clip.tokenize([f"a photo of a {name}." for name in CLASSES]).numpy()
    optimizer = torch.optim.AdamW(
        parameters.values(),
        lr=SETTINGS["lr"],
        weight_decay=SETTINGS["weight_decay"],
        betas=SETTINGS["betas"],
    )
    logits = logits_of(model, images, tokens)
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(LABELS).long())
    loss.backward()
    optimizer.step()
    arrays = {
        "settings": np.array(json.dumps(SETTINGS)),
        "tokens": tokens.astype(np.int32),
        "labels": LABELS,
        "loss": np.float32(loss.item()),
        "logits": logits.detach().numpy(),
    } | kept(parameters)
    np.savez_compressed(FILE, **arrays)


def kept(parameters: dict[str, torch.nn.Parameter]) -> dict[str, np.ndarray]:
    """Returns norms and some entries of every gradient and updated array, one row per name."""
    random = np.random.default_rng(SETTINGS["seed"])
    places = np.stack([random.integers(p.numel(), size=ENTRIES) for p in parameters.values()])
    arrays = {"names": np.array(list(parameters)), "places": places.astype(np.int32)}
    for kind, values in (
        ("gradient", [p.grad.numpy() for p in parameters.values()]),
        ("updated", [p.detach().numpy() for p in parameters.values()]),
    ):
        arrays[f"{kind}_norms"] = np.array([np.linalg.norm(x) for x in values], np.float32)
        rows = zip(values, places, strict=True)
        arrays[f"{kind}_entries"] = np.stack([x.ravel()[places] for x, places in rows])
    return arrays


if __name__ == "__main__":
    main()

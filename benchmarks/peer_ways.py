"""What `benchmarks/bench.py` measures of others: PyTorch and OpenVINO, in their own environment.

The models are Hugging Face's CLIP with its fused attention. What the methods' authors published is
written anew here from their code as it stands on GitHub, step for step, in fp32 where the original
computes so on a CPU: CLIP-LoRA (MaxZanella/CLIP-LoRA), MTA (MaxZanella/MTA) and LP++
(FereshteShakeri/FewShot-CLIP-Strong-Baseline).
"""

import ctypes
import gc
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from benchmarks.clip_inputs import VIT_B32
from benchmarks.clip_peer import declare_operator, huggingface_config
from benchmarks.worker import ROWS, Ways, random_pixels, serve

LENGTH_STEP = 8  # lengths of calls are multiples of this, so that few shapes are compiled


def clip(dtype: torch.dtype = torch.float32):
    from transformers import CLIPModel

    torch.manual_seed(0)
    return CLIPModel(huggingface_config(VIT_B32, "sdpa")).to(dtype).eval().requires_grad_(False)


def embed_images(model, pixels: torch.Tensor) -> torch.Tensor:
    return model.visual_projection(model.vision_model(pixels).pooler_output)


def embed_texts(model, tokens: torch.Tensor) -> torch.Tensor:
    return model.text_projection(model.text_model(tokens).pooler_output)


def in_turn(encode: Callable, dtype: torch.dtype, autocast: bool = False) -> Callable:
    """encode(input) without gradients, as NumPy."""

    def way(given: torch.Tensor) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            given = given.to(dtype) if given.is_floating_point() else given
            return encode(given).float().numpy()

    return way


def encoders(embed: Callable) -> dict[str, Callable]:
    """The settings of PyTorch that its users have."""
    whole, half = clip(), clip(torch.bfloat16)

    def eager(model):
        return lambda given: embed(model, given)

    return {
        "torch, fp32": in_turn(eager(whole), torch.float32),
        "torch, fp32, compiled": in_turn(torch.compile(eager(whole)), torch.float32),
        "torch, bf16 autocast": in_turn(eager(whole), torch.float32, autocast=True),
        "torch, bf16 weights": in_turn(eager(half), torch.bfloat16),
        "torch, bf16 weights, compiled": in_turn(torch.compile(eager(half)), torch.bfloat16),
    }


def image(batch: int, folder: Path) -> Ways:
    """The image tower; OpenVINO's in bf16 where the processor has it, by its own choice."""
    given = torch.from_numpy(random_pixels(batch))
    ways = {name: lambda f=f: f(given) for name, f in encoders(embed_images).items()}
    return ways | {"openvino": openvino_tower(given)}


def openvino_tower(given: torch.Tensor) -> Callable[[], np.ndarray]:
    import openvino

    class Tower(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = clip()

        def forward(self, pixels):
            return embed_images(self.model, pixels)

    model = openvino.convert_model(
        Tower().eval(), example_input=given[:2], input=[list(given.shape)]
    )
    compiled = openvino.Core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    return lambda: next(iter(compiled(given.numpy()).values()))


def calls(tokens: np.ndarray, cut: bool) -> list[torch.Tensor]:
    """Calls of the text encoder, each cut after its longest text or whole."""
    found = []
    for start in range(0, len(tokens), ROWS):
        rows = tokens[start : start + ROWS]
        longest = -(-(int(rows.argmax(axis=1).max()) + 1) // LENGTH_STEP) * LENGTH_STEP
        found.append(torch.from_numpy(rows[:, : longest if cut else None].astype(np.int64)))
    return found


def text(sentences: int, folder: Path) -> Ways:
    """As its users call it, all 77 tokens; and given the same truncation as ours."""
    tokens = np.load(folder / "tokens.npy")
    ways: dict[str, Callable] = {}
    for cut in (False, True):
        given, length = calls(tokens, cut), "truncated" if cut else "77 tokens"
        for name, encode in encoders(embed_texts).items():
            ways[f"{name}, {length}"] = lambda g=given, f=encode: np.concatenate(list(map(f, g)))
    return ways


class Adapted(torch.nn.Module):
    """A projection with CLIP-LoRA's change: the product B A is made whole, then multiplied."""

    def __init__(self, base: torch.nn.Linear):
        super().__init__()
        self.base, (outputs, inputs) = base, base.weight.shape
        self.a = torch.nn.Parameter(torch.empty(2, inputs).uniform_(-1, 1) * inputs**-0.5)
        self.b = torch.nn.Parameter(torch.zeros(outputs, 2))
        self.dropout = torch.nn.Dropout(0.25)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        change = (self.b @ self.a).to(x.dtype).transpose(0, 1)
        return self.base(x) + torch.matmul(self.dropout(x), change) * 2**-0.5


def lora(batch: int, classes: int, folder: Path) -> Ways:
    """A step of CLIP-LoRA as published, and in bf16 with our truncation, eager and compiled."""
    with np.load(folder / "lora.npz") as stored:
        tokens, pixels, labels = (stored[name] for name in ("tokens", "pixels", "labels"))
    pixels, labels = torch.from_numpy(pixels), torch.from_numpy(labels).long()
    ends = -(-(int(tokens.argmax(axis=1).max()) + 1) // LENGTH_STEP) * LENGTH_STEP
    whole = torch.from_numpy(tokens.astype(np.int64))

    def step_of(dtype: torch.dtype, given: torch.Tensor, compiled: bool) -> Callable:
        model = clip(dtype)
        for tower in (model.vision_model, model.text_model):
            for layer in tower.encoder.layers:
                for name in ("q_proj", "k_proj", "v_proj"):
                    setattr(layer.self_attn, name, Adapted(getattr(layer.self_attn, name)))
        model.train()
        learned = [each for each in model.parameters() if each.requires_grad]
        optimizer = torch.optim.AdamW(learned, 2e-4, weight_decay=0.01)

        def loss_of(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
            features = F.normalize(embed_images(model, images.to(dtype)).float(), dim=-1)
            vectors = F.normalize(embed_texts(model, texts).float(), dim=-1)
            return F.cross_entropy(100 * features @ vectors.T, labels)

        forward = torch.compile(loss_of) if compiled else loss_of

        def step() -> np.ndarray:
            loss = forward(pixels, given)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach().numpy()

        return step

    cut, half = whole[:, :ends], torch.bfloat16
    return {
        "CLIP-LoRA as published, fp32": step_of(torch.float32, whole, False),
        "torch, fp32, truncated": step_of(torch.float32, cut, False),
        "torch, fp32, truncated, compiled": step_of(torch.float32, cut, True),
        "torch, bf16, truncated": step_of(half, cut, False),
        "torch, bf16, truncated, compiled": step_of(half, cut, True),
    }


def head(shots: int, classes: int, iterations: int, folder: Path) -> Ways:
    """LP++ as published: SGD with momentum, every iteration looking at validation shots."""
    with np.load(folder / "head.npz") as stored:
        arrays = {name: torch.from_numpy(stored[name]) for name in stored.files}
    features, held = (F.normalize(arrays[name], dim=1) for name in ("features", "held"))
    text, labels = (
        F.normalize(arrays["text"], dim=1)[: int(arrays["labels"].max()) + 1],
        arrays["labels"],
    )

    def fit() -> np.ndarray:
        weights, kept = text.T.contiguous(), None
        one_hot = F.one_hot(labels).float()
        classifier = torch.nn.Linear(features.shape[1], len(text))
        classifier.weight.data = (one_hot / one_hot.sum(dim=0)).T @ features
        largest = np.linalg.eigvalsh((features.T @ features).numpy()).max()
        cosines = features @ weights
        own = ((one_hot / one_hot.sum(dim=0)) * cosines).sum(dim=0).mean()
        alphas = (250 * own * torch.ones(1, len(text))).requires_grad_()
        alpha_rate = len(features) / (4 * (cosines**2).sum(dim=0).max())
        rate = 4 * len(features) / float(largest)
        optimizer, best = torch.optim.SGD(classifier.parameters(), rate, momentum=0.9), 0.0
        for epoch in range(iterations):
            logits = classifier(features)
            logits = logits + torch.ones(len(features), 1) @ alphas * (features @ weights)
            loss = F.cross_entropy(logits, labels)
            np.mean(logits.argmax(dim=1).numpy() == labels.numpy())  # it prints this
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if (epoch + 1) % 10 == 0:
                alphas.data -= alpha_rate * alphas.grad.data
            with torch.no_grad():
                found = classifier(held) + torch.ones(len(held), 1) @ alphas * (held @ weights)
            accuracy = np.mean(found.argmax(dim=1).numpy() == labels.numpy())
            if accuracy > best:
                best, kept = accuracy, deepcopy((classifier.state_dict(), alphas))
        assert kept is not None
        return np.array([accuracy])

    return {"LP++ as published, fp32": fit}


def solve_mta(features: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """The mode of one image's views [P, E], as the public code finds it."""
    chances = (100 * features @ text.T).softmax(dim=1)
    affinity, distances = chances @ chances.T, torch.cdist(features, features)
    nearest = distances.sort(dim=1)[0][:, 1 : int(0.3 * (len(features) - 1)) + 1]
    bandwidth = (0.5 * (nearest**2).mean(dim=1)).sqrt()
    mode, y = features[0], torch.full((len(features),), 1 / len(features))

    def density() -> torch.Tensor:
        return torch.exp(-((features - mode).norm(dim=-1) ** 2) / (2 * bandwidth**2))

    for _ in range(5):
        near = density()
        for _ in range(5):
            before = y
            y = ((near + 4 * (affinity * y[None]).sum(dim=1)) / 0.2).softmax(dim=-1)
            if (before - y).norm() < 1e-6:
                break
        for _ in range(5):
            before, pull = mode, density() * y
            mode = F.normalize((pull[:, None] * features).sum(dim=0) / pull.sum(), dim=-1)
            if (before - mode).norm() < 1e-6:
                break
    return mode


def mta(images: int, views: int, folder: Path) -> Ways:
    """Each view opened, cropped and resized by PIL, one image at a time, then the public MTA."""
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode

    cubic = InterpolationMode.BICUBIC
    scaled = [
        transforms.ToTensor(),
        transforms.Normalize(
            (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
        ),
    ]
    centre = transforms.Compose(
        [transforms.Resize(224, cubic), transforms.CenterCrop(224), *scaled]
    )
    crop = transforms.RandomResizedCrop(224, scale=(0.5, 1), interpolation=cubic)
    random = transforms.Compose([crop, transforms.RandomHorizontalFlip(), *scaled])
    text, paths = torch.from_numpy(np.load(folder / "text.npy")), sorted(folder.glob("photo_*.jpg"))

    def view(path: Path, number: int) -> torch.Tensor:
        photo = Image.open(path).convert("RGB")
        return (random if number else centre)(photo)

    def lines(encode: Callable) -> np.ndarray:
        found = []
        for path in paths:
            given = torch.stack([view(path, number) for number in range(views)])
            features = F.normalize(torch.from_numpy(encode(given)), dim=-1)
            found.append(solve_mta(features, text) @ text.T)
        return torch.stack(found).argsort(dim=1, descending=True)[:, :5].numpy()

    known = encoders(embed_images)
    return {
        f"MTA as published, {name}": partial(lines, known[name])
        for name in ("torch, fp32", "torch, bf16 autocast", "torch, bf16 weights, compiled")
    }


def views(**_) -> Ways:
    """Nothing: both ways are Pillow's."""
    return {}


def tidy() -> None:
    """Gives the C library's free memory back."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)


if __name__ == "__main__":
    declare_operator()  # before transformers, which imports torchvision
    serve({each.__name__: each for each in (image, text, lora, head, mta, views)}, tidy)

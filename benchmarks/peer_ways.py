"""The peers' ways of each benchmark: PyTorch and OpenVINO, in an environment of their own.

The models are Hugging Face's CLIP with its fused attention. The methods follow their authors' code
on GitHub step for step, in fp32 if the original computes so on a CPU: CLIP-LoRA
(MaxZanella/CLIP-LoRA), MTA (MaxZanella/MTA) and LP++
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

from benchmarks.clip_peer import declare_operator, huggingface_config
from benchmarks.seeded_inputs import VIT_B32
from benchmarks.worker import ROWS, Ways, random_pixels, serve

LENGTH_STEP = 8  # a call's length in tokens is a multiple of it, so that few shapes are compiled


def build_clip(dtype: torch.dtype = torch.float32):
    """Returns Hugging Face's ViT-B/32 with random weights."""
    from transformers import CLIPModel

    torch.manual_seed(0)
    return CLIPModel(huggingface_config(VIT_B32, "sdpa")).to(dtype).eval().requires_grad_(False)


def embed_images(model, pixels: torch.Tensor) -> torch.Tensor:
    """Returns image features [B,E]."""
    return model.visual_projection(model.vision_model(pixels).pooler_output)


def embed_texts(model, tokens: torch.Tensor) -> torch.Tensor:
    """Returns text features [S,E]."""
    return model.text_projection(model.text_model(tokens).pooler_output)


def inference(encode: Callable, dtype: torch.dtype, autocast: bool = False) -> Callable:
    """Returns `encode` for inference: from a tensor, in this type, to a NumPy array."""

    def way(inputs: torch.Tensor) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            inputs = inputs.to(dtype) if inputs.is_floating_point() else inputs
            return encode(inputs).float().numpy()

    return way


def encoders(embed: Callable) -> dict[str, Callable]:
    """Returns `embed` in each precision of PyTorch, eager and compiled."""
    whole, half = build_clip(), build_clip(torch.bfloat16)

    def eager(model):
        return lambda inputs: embed(model, inputs)

    return {
        "torch, fp32": inference(eager(whole), torch.float32),
        "torch, fp32, compiled": inference(torch.compile(eager(whole)), torch.float32),
        "torch, bf16 autocast": inference(eager(whole), torch.float32, autocast=True),
        "torch, bf16 weights": inference(eager(half), torch.bfloat16),
        "torch, bf16 weights, compiled": inference(torch.compile(eager(half)), torch.bfloat16),
    }


def image(batch: int, folder: Path) -> Ways:
    """Returns the image tower; OpenVINO itself chooses bf16 if the processor has it."""
    pixels = torch.from_numpy(random_pixels(batch))
    ways = {name: lambda f=f: f(pixels) for name, f in encoders(embed_images).items()}
    return ways | {"openvino": openvino_tower(pixels)}


def openvino_tower(pixels: torch.Tensor) -> Callable[[], np.ndarray]:
    """Returns the image tower as OpenVINO compiles it."""
    import openvino

    class Tower(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = build_clip()

        def forward(self, pixels):
            return embed_images(self.model, pixels)

    model = openvino.convert_model(
        Tower().eval(), example_input=pixels[:2], input=[list(pixels.shape)]
    )
    compiled = openvino.Core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    return lambda: next(iter(compiled(pixels.numpy()).values()))


def calls(tokens: np.ndarray, cut: bool) -> list[torch.Tensor]:
    """Returns the inputs of each call of the text encoder, cut after its longest text or whole."""
    batches = []
    for start in range(0, len(tokens), ROWS):
        rows = tokens[start : start + ROWS]
        longest = -(-(int(rows.argmax(axis=1).max()) + 1) // LENGTH_STEP) * LENGTH_STEP
        batches.append(torch.from_numpy(rows[:, : longest if cut else None].astype(np.int64)))
    return batches


def text(sentences: int, folder: Path) -> Ways:
    """Returns the text tower on all 77 tokens, as its users call it, and truncated as the kit's."""
    tokens = np.load(folder / "tokens.npy")
    ways: dict[str, Callable] = {}
    for cut in (False, True):
        batches, length = calls(tokens, cut), "truncated" if cut else "77 tokens"
        for name, encode in encoders(embed_texts).items():
            ways[f"{name}, {length}"] = lambda b=batches, f=encode: np.concatenate(list(map(f, b)))
    return ways


class Adapted(torch.nn.Module):
    """A projection with CLIP-LoRA's change, whose product B A is computed before it is applied."""

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
    """Returns a step of CLIP-LoRA as published, and truncated as the kit's, eager and compiled."""
    with np.load(folder / "lora.npz") as stored:
        tokens, pixels, labels = (stored[name] for name in ("tokens", "pixels", "labels"))
    pixels, labels = torch.from_numpy(pixels), torch.from_numpy(labels).long()
    ends = -(-(int(tokens.argmax(axis=1).max()) + 1) // LENGTH_STEP) * LENGTH_STEP
    whole = torch.from_numpy(tokens.astype(np.int64))

    def build_step(dtype: torch.dtype, tokens: torch.Tensor, compiled: bool) -> Callable:
        model = build_clip(dtype)
        for tower in (model.vision_model, model.text_model):
            for layer in tower.encoder.layers:
                for name in ("q_proj", "k_proj", "v_proj"):
                    setattr(layer.self_attn, name, Adapted(getattr(layer.self_attn, name)))
        model.train()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, 2e-4, weight_decay=0.01)

        def loss_of(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
            features = F.normalize(embed_images(model, images.to(dtype)).float(), dim=-1)
            vectors = F.normalize(embed_texts(model, texts).float(), dim=-1)
            return F.cross_entropy(100 * features @ vectors.T, labels)

        forward = torch.compile(loss_of) if compiled else loss_of

        def step() -> np.ndarray:
            loss = forward(pixels, tokens)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach().numpy()

        return step

    cut, half = whole[:, :ends], torch.bfloat16
    return {
        "CLIP-LoRA as published, fp32": build_step(torch.float32, whole, False),
        "torch, fp32, truncated": build_step(torch.float32, cut, False),
        "torch, fp32, truncated, compiled": build_step(torch.float32, cut, True),
        "torch, bf16, truncated": build_step(half, cut, False),
        "torch, bf16, truncated, compiled": build_step(half, cut, True),
    }


def head(shots: int, classes: int, iterations: int, folder: Path) -> Ways:
    """Returns LP++ as published: SGD with momentum, and validation shots in every iteration."""
    with np.load(folder / "head.npz") as stored:
        arrays = {name: torch.from_numpy(stored[name]) for name in stored.files}
    features, held = (F.normalize(arrays[name], dim=1) for name in ("features", "held"))
    text, labels = (
        F.normalize(arrays["text"], dim=1)[: int(arrays["labels"].max()) + 1],
        arrays["labels"],
    )

    def fit() -> np.ndarray:
        weights, best_state = text.T.contiguous(), None
        one_hot = F.one_hot(labels).float()
        classifier = torch.nn.Linear(features.shape[1], len(text))
        classifier.weight.data = (one_hot / one_hot.sum(dim=0)).T @ features
        largest = np.linalg.eigvalsh((features.T @ features).numpy()).max()
        cosines = features @ weights
        own_cosine = ((one_hot / one_hot.sum(dim=0)) * cosines).sum(dim=0).mean()
        alphas = (250 * own_cosine * torch.ones(1, len(text))).requires_grad_()
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
                scores = classifier(held) + torch.ones(len(held), 1) @ alphas * (held @ weights)
            accuracy = np.mean(scores.argmax(dim=1).numpy() == labels.numpy())
            if accuracy > best:
                best, best_state = accuracy, deepcopy((classifier.state_dict(), alphas))
        assert best_state is not None
        return np.array([accuracy])

    return {"LP++ as published, fp32": fit}


def solve_mta(features: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """Returns the mode of one image's views [P,E], as the public code computes it."""
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
    """Returns the public MTA on views that PIL opens, crops and resizes, image by image."""
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
        logits = []
        for path in paths:
            pixels = torch.stack([view(path, number) for number in range(views)])
            features = F.normalize(torch.from_numpy(encode(pixels)), dim=-1)
            logits.append(solve_mta(features, text) @ text.T)
        return torch.stack(logits).argsort(dim=1, descending=True)[:, :5].numpy()

    by_name = encoders(embed_images)
    return {
        f"MTA as published, {name}": partial(lines, by_name[name])
        for name in ("torch, fp32", "torch, bf16 autocast", "torch, bf16 weights, compiled")
    }


def views(**_) -> Ways:
    """Returns nothing, because both ways of this benchmark are the kit's."""
    return {}


def tidy() -> None:
    """Returns the C library's free memory to the system."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)


if __name__ == "__main__":
    declare_operator()  # before transformers, which imports torchvision
    serve({each.__name__: each for each in (image, text, lora, head, mta, views)}, tidy)

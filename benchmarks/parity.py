"""Compares jclip with OpenAI's and Hugging Face's CLIP at full size: features, tokens, pixels.

    python benchmarks/parity.py --peer_python PEER/bin/python --openai_clip FOLDER

PEER is an environment with torch, torchvision, transformers, ftfy and regex. FOLDER is a checkout
of https://github.com/openai/CLIP. No trained weights and no photo are needed, because both sides
draw the same ones from seeds. Prints one line per comparison and ends with status 1 if one fails.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

import jclip
from benchmarks import seeded_inputs
from engine.config import parse
from jclip.preprocess import make_preprocess
from runtime.paths import ROOT

TOLERANCE = 1e-4  # relative; fp32 sums of a few thousand terms in another order, twelve layers deep
SEED = 20210226
TEXTS = 10_000
MODES = ("RGB", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F", "1")
SIDES = (
    ((1, 300), (300, 1), (7, 10), (224, 224), (224, 301), (225, 224), (223, 500))
    + ((640, 10), (333, 257), (499, 375), (375, 501), (1023, 767))
)  # fmt: skip
TEXT_TOWER = {"context_length": 77, "vocab_size": 49408, "transformer_layers": 12}
MODELS = {
    "ViT-B/32": jclip.ClipConfig(
        512, 224, 12, 768, 32, transformer_width=512, transformer_heads=8, **TEXT_TOWER
    ),
    "ViT-B/16": jclip.ClipConfig(
        512, 224, 12, 768, 16, transformer_width=512, transformer_heads=8, **TEXT_TOWER
    ),
    "RN50": jclip.ClipConfig(
        1024, 224, (3, 4, 6, 3), 64, None, transformer_width=512, transformer_heads=8, **TEXT_TOWER
    ),
}


class Peer:
    """OpenAI's and Hugging Face's CLIP, in a process of its own for each question."""

    def __init__(self, python: str, openai_clip: Path, folder: Path):
        self.command = [python, "-m", "benchmarks.clip_peer"]
        self.command += ["--openai-clip", str(openai_clip.absolute())]
        self.folder = folder

    def ask(self, task: str, **request) -> dict[str, np.ndarray]:
        """Returns the arrays that `benchmarks.clip_peer` answers with."""
        question, answer = self.folder / "question.json", self.folder / "answer.npz"
        question.write_text(json.dumps({"task": task, **request}), encoding="utf-8")
        subprocess.run(
            [*self.command, "--request", str(question), "--answer", str(answer)],
            cwd=ROOT,
            check=True,
        )
        with np.load(answer) as arrays:
            return dict(arrays)


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Returns the largest difference, relative to the largest element of its row."""
    return float((np.abs(ours - theirs).max(axis=1) / np.abs(theirs).max(axis=1)).max())


def compare_features(peer: Peer, name: str, sizes: jclip.ClipConfig, images: int) -> bool:
    """Whether both towers' features agree within TOLERANCE with each peer's."""
    weights = peer.folder / "weights.pt"
    answer = peer.ask(
        "features", sizes=asdict(sizes), seed=SEED, weights=str(weights), images=images
    )
    model, _ = jclip.load(weights)
    pixels = seeded_inputs.seeded_images(images, sizes.image_resolution, SEED)
    tokens = jclip.tokenize(list(seeded_inputs.SENTENCES), truncate=True)
    ours = {"image": model.encode_image(pixels).numpy(), "text": model.encode_text(tokens).numpy()}
    weights.unlink()
    good = True
    for label, theirs in answer.items():
        error = relative_error(ours[label.split()[-1]], theirs)
        good &= error <= TOLERANCE
        print(f"{name:9} {label:19} largest relative difference {error:.1e}", flush=True)
    return good


def compare_tokens(peer: Peer) -> bool:
    """Whether the tokens of 10,000 varied strings are OpenAI's."""
    texts = seeded_inputs.varied_texts(TEXTS, SEED)
    theirs = peer.ask("tokens", texts=texts)["tokens"]
    differ = (jclip.tokenize(texts, truncate=True) != theirs).any(axis=1)
    print(f"tokens    OpenAI: {differ.sum()} of {len(texts)} strings differ", flush=True)
    for row in np.flatnonzero(differ)[:3]:
        print("          " + ascii(texts[row]))
    return not differ.any()


def compare_pixels(peer: Peer, resolution: int = 224) -> bool:
    """Whether preprocessed photos of every mode and of many sizes are OpenAI's, to the bit."""
    photos = [(mode, *sides, SEED) for mode in MODES for sides in SIDES]
    theirs = peer.ask("pixels", photos=photos, resolution=resolution)
    preprocess = make_preprocess(resolution)
    differ = [
        f"{mode} {width}x{height}"
        for row, (mode, width, height, seed) in enumerate(photos)
        if not np.array_equal(
            preprocess(seeded_inputs.photo(mode, width, height, seed)), theirs[str(row)]
        )
    ]
    print(f"pixels    OpenAI: {len(differ)} of {len(photos)} photos differ {differ}", flush=True)
    return not differ


@dataclass(frozen=True)
class Config:
    """Compares jclip with OpenAI's and Hugging Face's CLIP at full size."""

    peer_python: str
    """Python with torch, torchvision, transformers, ftfy and regex"""
    openai_clip: Path
    """checkout of openai/CLIP"""
    models: tuple[Literal["ViT-B/32", "ViT-B/16", "RN50"], ...] = ("ViT-B/32", "ViT-B/16", "RN50")
    """models to compare"""
    images: int = 8
    """images per model"""


def main() -> int:
    """Runs all comparisons; returns the exit status."""
    config = parse(Config, sys.argv[1:], "parity")
    with tempfile.TemporaryDirectory() as folder:
        peer = Peer(config.peer_python, config.openai_clip, Path(folder))
        good = [compare_tokens(peer), compare_pixels(peer)]
        for name in config.models:
            good.append(compare_features(peer, name, MODELS[name], config.images))
    print("equal" if all(good) else "NOT EQUAL")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())

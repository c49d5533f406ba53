"""The main job: from a few labelled images a class and a CLIP to the parts that `test.py` uses.

    python train.py clip_fewshot        (data in Dataset/, ViT-B-32.pkl beside train.py)

Stages, each kept while its inputs do not change: class vectors from prompts, then the isolated LP++
head on cached features of the shots. Test images are not read here.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewshot.data import DataError, Tree
from fewshot.device import use_device
from fewshot.features import Encoder, code_version
from fewshot.images import content_key
from fewshot.inputs import require
from fewshot.splits import (
    SEED,
    SHOTS,
    default_split,
    draw_split,
    read_split,
    split_path,
    write_split,
)
from fewshot.stages import Stage
from fewshot.text import TEMPLATES, class_vectors, load_templates, sentences_of
from models.head import LPPlusPlus
from runtime.hashing import sha256_of

CODE = ("fewshot/text.py", "models/*.py")  # what the parts depend on beside the features' code


@dataclass(frozen=True)
class Config:
    """Few-shot CLIP, stage by stage."""

    data: Path = Path("Dataset")
    """contest tree, folder of one folder a class, or list"""
    weights: str = "ViT-B-32.pkl"
    """CLIP weight file, or the name of an official model"""
    split: Path | None = None
    """few-shot split (JSON lines); by default the one in Dataset/splits for these data"""
    parts: Path = Path("test_pkl")
    """folder for the trained parts"""
    cache: Path = Path("cache")
    """folder for cached features"""
    n_iter: int = 100
    """iterations of the LP++ head"""
    workers: int = 0
    """threads that decode images, 0 for none"""
    batch_size: int = 32
    """images decoded ahead at a time; changes no result"""
    device: str = "auto"
    """auto, cpu or cuda"""
    fresh: bool = False
    """make every stage again"""


def chosen_split(config: Config, tree: Tree) -> Path:
    """The split that is named, else the one kept for these data, else one drawn now and kept."""
    if config.split:
        return config.split
    try:
        return default_split(config.data)
    except DataError:
        path = split_path(config.data)
        write_split(path, draw_split(tree, SHOTS, SEED), tree)
        print(f"split: drew {SHOTS} images a class -> {path}; keep it, it is part of your entry")
        return path


def run(config: Config) -> None:
    """Runs the stages in order."""
    device = use_device(config.device)
    tree, weights = require(config.data, config.weights)
    shots = read_split(chosen_split(config, tree), tree)
    base_ids = sorted({item.label for item in shots})
    labels = np.searchsorted(base_ids, [item.label for item in shots])
    encoder = Encoder(weights, device, config.cache, config.workers, config.batch_size)
    common = {"weights": encoder.weights_sha256, "code": code_version(*CODE), "device": device}

    def make_text() -> dict:
        sentences = sentences_of(tree, load_templates())
        vectors = encoder.sentences([text for group in sentences for text in group])
        text = class_vectors(vectors, [len(group) for group in sentences])
        return {
            "class_names": list(tree.class_names),
            "sentences": sentences,
            "text_features": text,
        }

    inputs = common | {"classes": list(tree.class_names), "templates": sha256_of(TEMPLATES)}
    text = Stage("text", config.parts / "text.pkl", inputs, make_text)
    text_features = text.run(fresh=config.fresh)["text_features"]  # [C,E]

    def make_head() -> dict:
        features, broken = encoder.images([item.path for item in shots])
        if broken:
            raise ValueError(f"a training image cannot be read: {next(iter(broken.values()))}")
        head = LPPlusPlus(n_iter=config.n_iter).fit(features, labels, text_features[base_ids])
        return {"base_ids": base_ids, "state": head.state()}

    images = [[item.label, content_key(item.path)] for item in shots]
    inputs = common | {"text": text.key, "n_iter": config.n_iter, "images": images}
    Stage("head", config.parts / "head.pkl", inputs, make_head).run(fresh=config.fresh)

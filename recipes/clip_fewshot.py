"""The main job: from a few labelled images a class and a CLIP to the parts that `test.py` uses.

    python train.py clip_fewshot        (data in Dataset/, ViT-B-32.pkl beside train.py)

A schedule of stages, each learning at its own pace on what the ones before it left, each kept while
its inputs do not change. Test images are not read here.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fewshot.auxiliary_stage import auxiliary_encoder, train_auxiliary
from fewshot.classifier import text_logits
from fewshot.config import as_plain
from fewshot.data import DataError, ImageItem, Tree
from fewshot.device import use_device
from fewshot.features import Encoder, Views, code_version
from fewshot.head_stage import HeadConfig, mean_views, train_channel, train_head
from fewshot.images import content_key
from fewshot.inputs import AUXILIARY, find_auxiliary, require
from fewshot.lora_stage import LoraStageConfig, train_lora, tuned_encoder, tuned_text
from fewshot.prompt_stage import PromptConfig, train_prompt
from fewshot.runlog import Run
from fewshot.splits import (
    SEED,
    SHOTS,
    default_split,
    draw_split,
    read_split,
    split_path,
    write_split,
)
from fewshot.stages import Parts, Schedule, Stage
from fewshot.text import TEMPLATES, class_vectors, domain_and_words, load_templates, sentences_of
from fewshot.transforms import Crops
from runtime.hashing import sha256_of

CODE = (  # what the parts depend on beside the features' code
    "fewshot/*_stage.py",
    "fewshot/checkpoint.py",
    "fewshot/losses.py",
    "fewshot/sampling.py",
    "fewshot/schedules.py",
    "fewshot/text.py",
    "models/*.py",
)


@dataclass(frozen=True)
class Config:
    """Few-shot CLIP, stage by stage."""

    data: Path = Path("Dataset")
    """contest tree, folder of one folder a class, or list"""
    weights: str = "ViT-B-32.pkl"
    """CLIP weight file, or the name of an official model"""
    auxiliary: Path = AUXILIARY
    """second, frozen encoder, MoCo v3's ResNet-50 or another CLIP; none where the file is absent"""
    split: Path | None = None
    """few-shot split (JSON lines); by default the one in Dataset/splits for these data"""
    parts: Path = Path("test_pkl")
    """folder for the trained parts"""
    cache: Path = Path("cache")
    """folder for cached features"""
    runs: Path = Path("runs/clip_fewshot")
    """folder for metrics and checkpoints, one folder a stage"""
    prompt: PromptConfig = field(default_factory=PromptConfig)
    lora: LoraStageConfig = field(default_factory=LoraStageConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    views: int = 10
    """views of each shot for prompt and head: the centre view and random crops"""
    crops: Crops = field(default_factory=Crops)
    seed: int = 1
    """seed of crops, initial weights and the order of the shots"""
    workers: int = 0
    """threads that decode images, 0 for none"""
    batch_size: int = 32
    """images decoded ahead at a time; changes no result"""
    device: str = "auto"
    """auto, cpu or cuda"""
    until: str = ""
    """last stage to run, of text, prompt, lora, head, channel, auxiliary"""
    only: str = ""
    """the one stage to run; those before it must be there"""
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


@dataclass(frozen=True)
class Shots:
    """The labelled images, by class and content, so that the lines' order changes nothing."""

    items: list[ImageItem]
    keys: list[str]

    @classmethod
    def of(cls, items: list[ImageItem]) -> "Shots":
        keyed = sorted((item.label, content_key(item.path), item.name, item) for item in items)
        return cls([entry[-1] for entry in keyed], [entry[1] for entry in keyed])

    @property
    def base_ids(self) -> list[int]:
        return sorted({item.label for item in self.items})

    @property
    def labels(self) -> np.ndarray:
        """labels[N]: places among the base classes."""
        return np.searchsorted(self.base_ids, [item.label for item in self.items])

    @property
    def paths(self) -> list[Path]:
        return [item.path for item in self.items]


def build(config: Config) -> Schedule:
    """The schedule: what each stage is made from, and how."""
    device = use_device(config.device)
    tree, weights = require(config.data, config.weights)
    second = find_auxiliary(config.auxiliary)
    shots = Shots.of(read_split(chosen_split(config, tree), tree))
    base = shots.base_ids
    names = [domain_and_words(tree, tree.class_names[k])[1] for k in base]
    encoder = Encoder(weights, device, config.cache, config.workers, config.batch_size)
    views = Views(config.views, config.crops, config.seed)
    common = {"weights": encoder.weights_sha256, "code": code_version(*CODE), "device": device}
    images = {
        "images": [[i.label, key] for i, key in zip(shots.items, shots.keys, strict=True)],
        "seed": config.seed,
        "crops": as_plain(config.crops),
    }

    def run_of(name: str) -> Run:
        run = Run(config.runs / name, {"stage": name, "key": schedule.key(name)})
        if config.fresh:
            run.checkpoint.unlink(missing_ok=True)
        return run

    def make_text(parts: Parts) -> dict:
        sentences = sentences_of(tree, load_templates())
        vectors = encoder.sentences([text for group in sentences for text in group])
        text = class_vectors(vectors, [len(group) for group in sentences])
        return {
            "class_names": list(tree.class_names),
            "base_ids": base,
            "logit_scale": encoder.logit_scale,
            "sentences": sentences,
            "text_features": text,
        }

    def make_prompt(parts: Parts) -> dict:
        features = encoder.views(shots.paths, views)  # [N,P,E]
        text = parts["text"]["text_features"][base]
        run = run_of("prompt")
        return train_prompt(
            config.prompt, encoder, names, features, shots.labels, text, run, config.seed
        )

    def make_lora(parts: Parts) -> dict:
        first = [parts["text"]["sentences"][k][0] for k in base]
        flip, run = config.crops.flip, run_of("lora")
        return train_lora(
            config.lora, encoder, shots.paths, shots.labels, first, flip, run, config.seed
        )

    def make_head(parts: Parts) -> dict:
        tuned = tuned_encoder(encoder, parts["lora"])
        sentences = [parts["text"]["sentences"][k] for k in base]
        vectors = tuned_text(tuned, parts["prompt"], names, sentences, config.seed)
        return vectors | train_head(
            config.head, tuned.views(shots.paths, views), shots.labels, vectors["class_vectors"]
        )

    def make_channel(parts: Parts) -> dict:
        features = tuned_encoder(encoder, parts["lora"]).views(shots.paths, views)
        return train_channel(config.head, features, shots.labels, parts["head"]["class_vectors"])

    def make_auxiliary(parts: Parts) -> dict:
        text = parts["text"]["text_features"][base]
        plain = mean_views(encoder.views(shots.paths, views))
        logits = text_logits(plain, text, encoder.logit_scale)
        return train_auxiliary(other, shots.paths, views, shots.labels, logits)

    text_inputs = {"classes": list(tree.class_names), "templates": sha256_of(TEMPLATES)}
    cached = images | {"views": config.views}
    head = cached | as_plain(config.head)
    stages = [
        Stage("text", common | text_inputs | {"base_ids": base}, make_text),
        Stage("prompt", common | cached | as_plain(config.prompt), make_prompt, ("text",)),
        Stage("lora", common | images | as_plain(config.lora), make_lora, ("text",)),
        Stage("head", common | head, make_head, ("text", "prompt", "lora")),
        Stage("channel", common | head, make_channel, ("lora", "head")),
    ]
    if second:
        other = auxiliary_encoder(encoder, second)
        inputs = common | cached | {"auxiliary": other.weights_sha256}
        stages.append(Stage("auxiliary", inputs, make_auxiliary, ("text",)))
    schedule = Schedule(stages, config.parts)
    return schedule


def run(config: Config) -> None:
    """Runs the schedule."""
    build(config).run(until=config.until, only=config.only, fresh=config.fresh)

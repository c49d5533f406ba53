"""The LoRA stage: low-rank changes of CLIP's own layers, learned on fresh crops of the shots.

Everything after it sees CLIP with the changes merged in (`tuned_encoder`).
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jittor as jt
import numpy as np

import jclip
from data.views import Crops
from engine.batches import ClassDraw, ImageBatches
from engine.config import require_ranges
from engine.losses import class_cross_entropy
from engine.micro_batches import MicroBatches
from engine.run_log import Run
from engine.schedules import warm_cosine
from engine.trainer import fit
from fewshot.features.encoder import Encoder
from fewshot.features.towers import clip_tower
from models.lora import LoraAdapters, LoraConfig


@dataclass(frozen=True)
class LoraStageConfig(LoraConfig):
    """The LoRA stage."""

    epochs: int = 30
    """passes over the shots, 0 for none; 43 are CLIP-LoRA's 500 x shots steps at 374 classes x 4"""
    lr: float = 2e-4
    """peak learning rate of AdamW; warm-up over the first epoch, then cosine"""
    final_lr: float = 1e-6
    """learning rate at the end"""
    weight_decay: float = 0.01
    """of AdamW"""
    batch_size: int = 32
    """images a step"""
    grad_accum: int = 1
    """micro-batches per batch, whose gradients are averaged; several processes share them"""
    classes: int = 0
    """classes in a step's softmax, 0 for all; the last fifth of the epochs takes all"""
    scale: tuple[float, float] = (0.08, 1.0)
    """share of the image's area that a crop takes, least and most"""

    def __post_init__(self):
        super().__post_init__()
        require_ranges({"epochs": self.epochs, "classes": self.classes}, least=0)
        Crops(self.scale)
        MicroBatches(self.grad_accum)


def lora_config(settings: dict) -> LoraConfig:
    """The adapters' own fields out of those of the stage."""
    names = [field.name for field in dataclasses.fields(LoraConfig)]
    return LoraConfig(**{name: settings[name] for name in names})


def lora_step(
    model: jclip.CLIP, tokens: np.ndarray, text_features: jt.Var | None, logit_scale: float
) -> Callable[[Any], dict[str, jt.Var]]:
    """A training step on `ImageBatches`: cross-entropy of J classes, whose texts are tokens[K,L],
    or text_features[K,E] where that tower does not learn.
    """

    def step(batch: Any) -> dict[str, jt.Var]:
        images, targets, rows = batch
        features = jt.normalize(model.encode_image(images), dim=1)  # [B,E]
        if text_features is None:
            text = model.encode_text(tokens[rows])
        else:
            text = text_features[jt.array(rows)]
        text = jt.normalize(text, dim=1)  # [J,E]
        logits = logit_scale * jt.matmul(features, text.transpose())  # [B,J]
        return {"loss": class_cross_entropy(logits, targets)}

    return step


def train_lora(
    config: LoraStageConfig,
    encoder: Encoder,
    paths: Sequence[Path],
    labels: np.ndarray,
    sentences: Sequence[str],
    flip: bool,
    run: Run,
    seed: int,
) -> dict:
    """The LoRA part. paths[N] and labels[N] of the shots, sentences[K], one of each class."""
    tower = clip_tower(encoder.weights)  # a model of its own: the encoder's stays as it is
    model: jclip.CLIP = tower.module
    tokens = jclip.tokenize(sentences, context_length=model.config.context_length)
    frozen = (
        None if "text" in config.towers else jt.array(encoder.encode_sentences(sentences))
    )  # [K,E]
    adapters = LoraAdapters(model, lora_config(vars(config)), seed)
    classes = ClassDraw(config.classes, len(sentences), config.epochs)
    batches = ImageBatches(
        paths,
        labels,
        config.batch_size,
        classes,
        seed,
        side=tower.side,
        to_array=tower.to_array,
        crops=Crops(config.scale, flip),
        workers=encoder.workers,
        micro_batches=MicroBatches(config.grad_accum),
    )

    variables, metrics = list(adapters.parameters()), {}
    if config.epochs:
        metrics = fit(
            lora_step(model, tokens, frozen, encoder.logit_scale),
            jt.optim.AdamW(variables, config.lr, weight_decay=config.weight_decay),
            batches,
            module=adapters,
            epochs=config.epochs,
            schedule=warm_cosine(config.lr, config.epochs, len(batches), config.final_lr),
            run=run,
            seed=seed,
        )
    return {
        "config": vars(config) | {"flip": flip},
        "metrics": metrics,
        "trainable": adapters.count,
        "lora": adapters.state(),
    }


def tuned_encoder(encoder: Encoder, part: dict) -> Encoder:
    """The encoder with the LoRA part merged into its CLIP."""
    return encoder.with_lora(lora_config(part["config"]), part["lora"])

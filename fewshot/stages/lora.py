"""The LoRA stage: low-rank adapters of CLIP's own layers, trained on fresh crops of the shots.

Every later stage sees CLIP with the adapters merged in (`Encoder.with_lora`).

B images, J of K base classes per step, L tokens, E embedding.
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
from engine.batches import ClassSampler, ImageBatches
from engine.config import require_ranges
from engine.losses import class_cross_entropy
from engine.micro_batches import MicroBatches
from engine.plain_data import to_plain
from engine.run_log import Run
from engine.schedules import warmup_cosine
from engine.trainer import fit
from fewshot.features.encoder import Encoder
from fewshot.features.towers import clip_tower
from fewshot.stages.parts import LoraPart, TextPart
from fewshot.stages.pipeline import Stage
from fewshot.stages.task import Task
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
    """weight decay of AdamW"""
    batch_size: int = 32
    """images per step"""
    grad_accum: int = 1
    """micro-batches per batch, whose gradients are averaged; several processes share them"""
    classes: int = 0
    """classes in the softmax of a step, 0 for all; the last fifth of the epochs takes all"""
    scale: tuple[float, float] = (0.08, 1.0)
    """smallest and largest share of the image's area that a crop takes"""

    def __post_init__(self):
        super().__post_init__()
        require_ranges({"epochs": self.epochs, "classes": self.classes}, least=0)
        Crops(self.scale)
        MicroBatches(self.grad_accum)

    @property
    def adapters(self) -> LoraConfig:
        """The fields that the adapters themselves have."""
        names = [field.name for field in dataclasses.fields(LoraConfig)]
        return LoraConfig(**{name: getattr(self, name) for name in names})


def lora_step(
    model: jclip.CLIP, tokens: np.ndarray, text_features: jt.Var | None, logit_scale: float
) -> Callable[[Any], dict[str, jt.Var]]:
    """Returns a training step on `ImageBatches`: the cross-entropy of J classes.

    Their texts are tokens[K,L], or text_features[K,E] if the text tower is not adapted.
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


def lora_stage(task: Task, config: LoraStageConfig) -> Stage:
    """Returns the stage that trains the adapters on crops of the shots."""

    def make(text: TextPart, run: Run) -> LoraPart:
        sentences = [text.sentences[label][0] for label in task.label_space.base_ids]
        flip, seed = task.views.crops.flip, task.views.seed
        paths = task.shots.paths
        return train_lora(config, task.encoder, paths, task.labels, sentences, flip, run, seed)

    inputs = task.inputs_with_crops | {"lora": to_plain(config)}
    return Stage("lora", LoraPart, inputs, make, ("text",), has_run=True)


def train_lora(
    config: LoraStageConfig,
    encoder: Encoder,
    paths: Sequence[Path],
    labels: np.ndarray,
    sentences: Sequence[str],
    flip: bool,
    run: Run,
    seed: int,
) -> LoraPart:
    """Trains the adapters on the shots paths[N], labels[N] and sentences[K], one of each class.

    flip: whether crops are mirrored at random.
    """
    tower = clip_tower(encoder.weights)  # a second model: that of the encoder stays as it is
    model: jclip.CLIP = tower.module
    tokens = jclip.tokenize(sentences, context_length=model.config.context_length)
    frozen = (
        None if "text" in config.towers else jt.array(encoder.encode_sentences(sentences))
    )  # [K,E]
    adapters = LoraAdapters(model, config.adapters, seed)
    classes = ClassSampler(config.classes, len(sentences), config.epochs)
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

    variables = list(adapters.parameters())
    if config.epochs:
        fit(
            lora_step(model, tokens, frozen, encoder.logit_scale),
            jt.optim.AdamW(variables, config.lr, weight_decay=config.weight_decay),
            batches,
            module=adapters,
            epochs=config.epochs,
            schedule=warmup_cosine(config.lr, config.epochs, len(batches), config.final_lr),
            run=run,
            seed=seed,
        )
    return LoraPart(
        trained_count=adapters.count,
        config=config.adapters,
        state=adapters.state(),
    )

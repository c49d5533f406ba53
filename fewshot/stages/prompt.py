"""The prompt stage: learned context tokens, a queue of them, and class vectors averaged over it.

CLIP stays frozen and image features come from cached views, so an epoch encodes text only.

N shots, P views of each, J of K base classes per step, Q entries of the queue, E embedding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jittor as jt
import numpy as np

from engine.batches import ClassSampler, FeatureBatches
from engine.config import require_ranges
from engine.losses import class_cross_entropy
from engine.micro_batches import MicroBatches
from engine.plain_data import to_plain
from engine.predictor import predict
from engine.run_log import Run
from engine.schedules import warmup_cosine
from engine.trainer import fit
from fewshot.features.encoder import ENCODER_ROWS, Encoder
from fewshot.stages.parts import PromptPart, TextPart
from fewshot.stages.pipeline import Stage
from fewshot.stages.task import Task
from fewshot.text.class_texts import compute_class_vectors
from models.normalize import unit_rows
from models.prompting.learner import POSITIONS, PromptLearner
from models.prompting.queue import (
    KINDS,
    PromptQueue,
    average_entries,
    blend_with_sentences,
    queue_weights,
)


@dataclass(frozen=True)
class PromptConfig:
    """The prompt stage."""

    epochs: int = 10
    """passes over the shots; 0 leaves the context at its words"""
    tokens: int = 4
    """learned context tokens"""
    words: str = "a photo of a"
    """words that the context starts from"""
    position: str = "front"
    """position of the context in the sentence: front, middle or end"""
    per_class: bool = False
    """a context for each class instead of one for all"""
    lr: float = 2e-3
    """peak learning rate of AdamW; cosine to zero, warm-up over the first epoch"""
    batch_size: int = 32
    """image features per step"""
    grad_accum: int = 1
    """micro-batches per batch, whose gradients are averaged; several processes share them"""
    classes: int = 0
    """classes in the softmax of a step, 0 for all; the last fifth of the epochs takes all"""
    anchor: float = 4.0
    """weight of the squared distance to the hand-made class vectors (KgCoOp's 8 on cosines)"""
    queue: int = 5
    """copies of the context that the queue holds"""
    push_every: int = 1
    """epochs between two copies"""
    weighting: str = "gaussian"
    """weights of the copies: uniform, ema or gaussian (about the last one, two epochs wide)"""
    beta: float = 0.5
    """share of the hand-made class vectors in the average, 0 to 1"""

    def __post_init__(self):
        require_ranges(
            {"epochs": self.epochs, "classes": self.classes, "anchor": self.anchor}, least=0
        )
        require_ranges(
            {"tokens": self.tokens, "queue": self.queue, "push_every": self.push_every}, least=1
        )
        MicroBatches(self.grad_accum)
        if self.position not in POSITIONS or self.weighting not in KINDS:
            raise ValueError(
                f"position {self.position!r} must be one of {', '.join(POSITIONS)}, "
                f"weighting {self.weighting!r} one of {', '.join(KINDS)}"
            )
        if not 0 <= self.beta <= 1:
            raise ValueError(f"beta is {self.beta}; it is a share, 0 to 1")
        if 0 < self.epochs < self.push_every:
            raise ValueError(f"{self.epochs} epochs never push: lower push_every")


class LearnedPrompt(jt.nn.Module):
    """What the stage trains, for one checkpoint: the context and its queue."""

    def __init__(self, learner: PromptLearner, queue: PromptQueue):
        self.learner, self.queue = learner, queue


def prompt_stage(task: Task, config: PromptConfig) -> Stage:
    """Returns the stage that learns the context on cached features of the shots' views."""

    def make(text: TextPart, run: Run) -> PromptPart:
        names = [text.names[label] for label in task.label_space.base_ids]
        features, seed = task.features(), task.views.seed
        return train_prompt(
            config, task.encoder, names, features, task.labels, text.base_features, run, seed
        )

    inputs = task.inputs_with_views | {"prompt": to_plain(config)}
    return Stage("prompt", PromptPart, inputs, make, ("text",), has_run=True)


def train_prompt(
    config: PromptConfig,
    encoder: Encoder,
    names: Sequence[str],
    features: np.ndarray,
    labels: np.ndarray,
    sentence_vectors: np.ndarray,
    run: Run,
    seed: int,
) -> PromptPart:
    """Trains the context on features[N,P,E] and labels[N].

    names[K] are the classes in words, sentence_vectors[K,E] their hand-made vectors.
    """
    learner = new_learner(encoder, names, config, seed)
    queue = PromptQueue(config.queue, tuple(learner.context.shape))
    classes = ClassSampler(config.classes, len(names), config.epochs)
    micro_batches = MicroBatches(config.grad_accum)
    batches = FeatureBatches(features, labels, config.batch_size, classes, seed, micro_batches)

    def push(epoch: int) -> None:
        if epoch % config.push_every == 0:
            queue.push(epoch, learner.context.numpy())

    if config.epochs:
        fit(
            prompt_step(learner, sentence_vectors, encoder.logit_scale, config.anchor),
            jt.optim.AdamW([learner.context], config.lr, weight_decay=0.0),
            batches,
            module=LearnedPrompt(learner, queue),
            epochs=config.epochs,
            schedule=warmup_cosine(config.lr, config.epochs, len(batches)),
            run=run,
            seed=seed,
            after_epoch=push,
        )
    else:
        queue.push(0, learner.context.numpy())
    epochs, contexts = zip(*queue.entries(), strict=True)
    weights = queue_weights(epochs, config.weighting)
    shown = ", ".join(f"{e}: {w:.3f}" for e, w in zip(epochs, weights, strict=True))
    print(f"prompt: queue of {len(epochs)}, epoch: weight {shown}", flush=True)
    queue_vectors = average_entries(
        queue_features(learner, contexts, len(names), encoder.device), weights
    )
    return PromptPart(
        trained_count=int(np.prod(contexts[0].shape)),
        tokens=config.tokens,
        words=config.words,
        position=config.position,
        per_class=config.per_class,
        beta=config.beta,
        epochs=list(epochs),
        weights=weights,
        contexts=np.stack(contexts),
        class_vectors=blend_with_sentences(queue_vectors, sentence_vectors, config.beta),
    )


def new_learner(
    encoder: Encoder, names: Sequence[str], settings: PromptConfig | PromptPart, seed: int
) -> PromptLearner:
    """Returns a learner over the encoder's CLIP, with a context of the configured shape."""
    return PromptLearner(
        encoder.model,
        names,
        tokens=settings.tokens,
        words=settings.words,
        position=settings.position,
        per_class=settings.per_class,
        seed=seed,
    )


def prompt_step(
    learner: PromptLearner, sentence_vectors: np.ndarray, logit_scale: float, anchor: float
) -> Callable[[Any], dict[str, jt.Var]]:
    """Returns a training step on `FeatureBatches`.

    The loss is the cross-entropy of J classes, plus `anchor` times the mean squared distance of
    their texts from sentence_vectors[K,E].
    """
    anchors = jt.array(unit_rows(sentence_vectors).astype(np.float32))  # [K,E]

    def step(batch: Any) -> dict[str, jt.Var]:
        images, targets, rows = batch
        text = jt.normalize(learner(rows), dim=1)  # [J,E]
        logits = logit_scale * jt.matmul(jt.array(images), text.transpose())  # [B,J]
        entropy = class_cross_entropy(logits, targets)
        away = ((text - anchors[jt.array(rows.astype(np.int32))]) ** 2).sum(dim=1).mean()
        return {"loss": entropy + anchor * away, "cross-entropy": entropy, "away": away}

    return step


def queue_features(
    learner: PromptLearner, contexts: Sequence[np.ndarray], classes: int, device: str
) -> np.ndarray:
    """Returns features[Q,K,E] of the contexts[Q] through the text tower as it is now."""
    rows = np.arange(classes, dtype=np.int32)[:, None]

    def features(context: jt.Var) -> np.ndarray:
        def forward(numbers: jt.Var) -> jt.Var:
            return learner.encode_context(context, numbers.numpy()[:, 0])

        return predict(forward, rows, batch=ENCODER_ROWS[device])

    return np.stack([features(jt.array(context)) for context in contexts])


def encode_class_vectors(
    encoder: Encoder, prompt: PromptPart, text: TextPart, seed: int
) -> np.ndarray:
    """Returns class_vectors[K,E] through the text tower of `encoder`, which has LoRA merged.

    LoRA was not trained with the prompts, so the average of their features is computed again.
    """
    base = text.label_space.base_ids
    names = [text.names[label] for label in base]
    weights = [text.sentence_weights[label] for label in base]
    sentences = [sentence for label in base for sentence in text.sentences[label]]
    sentence_vectors = compute_class_vectors(encoder.encode_sentences(sentences), weights)
    learner = new_learner(encoder, names, prompt, seed)
    entries = queue_features(learner, list(prompt.contexts), len(names), encoder.device)
    queue_vectors = average_entries(entries, prompt.weights)
    return blend_with_sentences(queue_vectors, sentence_vectors, prompt.beta)

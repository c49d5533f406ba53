"""The prompt stage: learned context tokens, their FIFO queue, and class vectors averaged over it.

CLIP stays frozen and image features come from cached views, so an epoch costs text only. LoRA does
not see the prompts: their averages are made again through its text tower (`tuned_text`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jittor as jt
import numpy as np

from engine.batches import ClassDraw, FeatureBatches
from engine.config import require_ranges
from engine.losses import class_cross_entropy
from engine.micro_batches import MicroBatches
from engine.run_log import Run
from engine.schedules import warm_cosine
from engine.trainer import fit, predict
from fewshot.features.encoder import ENCODER_ROWS, Encoder
from fewshot.text.class_texts import class_vectors
from jclip import CLIP
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
    """what the context starts from"""
    position: str = "front"
    """where the context stands in the sentence: front, middle or end"""
    per_class: bool = False
    """a context for each class instead of one for all"""
    lr: float = 2e-3
    """peak learning rate of AdamW; cosine to zero, warm-up over the first epoch"""
    batch_size: int = 32
    """image features a step"""
    grad_accum: int = 1
    """micro-batches per batch, whose gradients are averaged; several processes share them"""
    classes: int = 0
    """classes in a step's softmax, 0 for all; the last fifth of the epochs takes all"""
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
    """What the stage changes, for one checkpoint: the context and its queue."""

    def __init__(self, learner: PromptLearner, queue: PromptQueue):
        self.learner, self.queue = learner, queue


def queue_features(
    learner: PromptLearner, contexts: Sequence[np.ndarray], classes: int, device: str
) -> np.ndarray:
    """features[Q,K,E] of every copy of the context, through the text tower as it is now."""
    rows = np.arange(classes, dtype=np.int32)[:, None]

    def features(context: jt.Var) -> np.ndarray:
        def forward(numbers: jt.Var) -> jt.Var:
            return learner.encode_context(context, numbers.numpy()[:, 0])

        return predict(forward, rows, batch=ENCODER_ROWS[device])

    return np.stack([features(jt.array(context)) for context in contexts])


def class_vectors_of(part: dict, entry_features: np.ndarray, sentences: np.ndarray) -> dict:
    """The averages of a prompt part over given features: queue_vectors and class_vectors[K,E]."""
    vectors = average_entries(entry_features, part["weights"])
    mixed = blend_with_sentences(vectors, sentences, part["config"]["beta"])
    return {"queue_vectors": vectors, "class_vectors": mixed}


def new_learner(model: CLIP, names: Sequence[str], settings: dict, seed: int) -> PromptLearner:
    """A learner of the configured shape over a CLIP; `settings` are the fields of PromptConfig."""
    chosen = {name: settings[name] for name in ("tokens", "words", "position", "per_class")}
    return PromptLearner(model, names, seed=seed, **chosen)


def prompt_step(
    learner: PromptLearner, sentence_vectors: np.ndarray, logit_scale: float, anchor: float
) -> Callable[[Any], dict[str, jt.Var]]:
    """A training step on `FeatureBatches`: cross-entropy of J classes, and `anchor` times the mean
    squared distance of their texts from sentence_vectors[K,E].
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


def train_prompt(
    config: PromptConfig,
    encoder: Encoder,
    names: Sequence[str],
    features: np.ndarray,
    labels: np.ndarray,
    sentence_vectors: np.ndarray,
    run: Run,
    seed: int,
) -> dict:
    """The prompt part. names[K] in words, features[N,P,E], labels[N], sentence_vectors[K,E]."""
    learner = new_learner(encoder.model, names, vars(config), seed)
    queue = PromptQueue(config.queue, tuple(learner.context.shape))
    classes = ClassDraw(config.classes, len(names), config.epochs)
    micro_batches = MicroBatches(config.grad_accum)
    batches = FeatureBatches(features, labels, config.batch_size, classes, seed, micro_batches)

    def push(epoch: int) -> None:
        if epoch % config.push_every == 0:
            queue.push(epoch, learner.context.numpy())

    metrics = {}
    if config.epochs:
        metrics = fit(
            prompt_step(learner, sentence_vectors, encoder.logit_scale, config.anchor),
            jt.optim.AdamW([learner.context], config.lr, weight_decay=0.0),
            batches,
            module=LearnedPrompt(learner, queue),
            epochs=config.epochs,
            schedule=warm_cosine(config.lr, config.epochs, len(batches)),
            run=run,
            seed=seed,
            after_epoch=push,
        )
    else:
        queue.push(0, learner.context.numpy())
    epochs, contexts = zip(*queue.entries(), strict=True)
    part: dict[str, Any] = {
        "config": dict(vars(config)),
        "metrics": metrics,
        "trainable": int(np.prod(contexts[0].shape)),
        "epochs": list(epochs),
        "weights": queue_weights(epochs, config.weighting),
        "contexts": np.stack(contexts),
    }
    shown = ", ".join(f"{e}: {w:.3f}" for e, w in zip(epochs, part["weights"], strict=True))
    print(f"prompt: queue of {len(epochs)}, epoch: weight {shown}", flush=True)
    entry_features = queue_features(learner, contexts, len(names), encoder.device)
    return part | class_vectors_of(part, entry_features, sentence_vectors)


def tuned_text(
    encoder: Encoder,
    prompt: dict,
    text: dict,
    seed: int,
) -> dict:
    """The base classes' vectors through the merged text tower: text_features, queue_vectors and
    class_vectors, each [K,E].

    prompt and text: the parts of these stages.
    """
    base = text["base_ids"]
    names, sentences, weights = (
        [text[key][k] for k in base] for key in ("names", "sentences", "weights")
    )
    flat = encoder.encode_sentences([sentence for group in sentences for sentence in group])
    vectors = class_vectors(flat, weights)
    learner = new_learner(encoder.model, names, prompt["config"], seed)
    entries = queue_features(learner, list(prompt["contexts"]), len(names), encoder.device)
    return {"text_features": vectors} | class_vectors_of(prompt, entries, vectors)

"""The head stages: LP++ on features of CLIP with LoRA merged, alone and behind re-weighted
channels, and a Gaussian discriminant next to zero-shot, in closed form.

N shots, P views of each, K base classes, E embedding.
"""

from dataclasses import dataclass

import numpy as np

from data.views import Views
from engine.plain_data import to_plain
from fewshot.stages.parts import ChannelPart, GdaPart, HeadPart, LoraPart, PromptPart, TextPart
from fewshot.stages.pipeline import Stage
from fewshot.stages.prompt import encode_class_vectors
from fewshot.stages.task import Task, mean_views
from models.heads.channel_reweighting import ChannelReweighting
from models.heads.gda import GaussianDiscriminant
from models.heads.lpplusplus import SHOTS_FOR_FOLDS, LPPlusPlus


@dataclass(frozen=True)
class HeadConfig:
    """The head stages."""

    n_iter: int = 100
    """updates of the LP++ head"""


def head_stage(task: Task, config: HeadConfig) -> Stage:
    """Returns the stage that fits LP++ to the shots' features through CLIP with LoRA merged."""

    def make(text: TextPart, prompt: PromptPart, lora: LoraPart) -> HeadPart:
        encoder = task.tuned_encoder(lora)
        class_vectors = encode_class_vectors(encoder, prompt, text, task.views.seed)
        features = encoder.encode_training_views(task.shots.paths, task.views)
        return train_head(config, features, task.labels, class_vectors, task.views)

    inputs = task.inputs_with_views | {"head": to_plain(config)}
    return Stage("head", HeadPart, inputs, make, ("text", "prompt", "lora"))


def channel_stage(task: Task, config: HeadConfig) -> Stage:
    """Returns the stage that re-weights channels and fits LP++ behind them."""

    def make(lora: LoraPart, head: HeadPart) -> ChannelPart:
        encoder = task.tuned_encoder(lora)
        features = encoder.encode_training_views(task.shots.paths, task.views)
        return train_channel(config, features, task.labels, head.class_vectors)

    inputs = task.inputs_with_views | {"head": to_plain(config)}
    return Stage("channel", ChannelPart, inputs, make, ("lora", "head"))


def gda_stage(task: Task) -> Stage:
    """Returns the stage that fits the Gaussian discriminant to the shots' features."""

    def make(text: TextPart) -> GdaPart:
        return train_gda(task.features(), task.labels, task.zero_shot_logits(text))

    return Stage("gda", GdaPart, task.inputs_with_views, make, ("text",))


def train_head(
    config: HeadConfig,
    features: np.ndarray,
    labels: np.ndarray,
    class_vectors: np.ndarray,
    views: Views,
) -> HeadPart:
    """Fits LP++ to features[N,P,E] and class_vectors[K,E] of CLIP with LoRA merged."""
    head = LPPlusPlus(n_iter=config.n_iter).fit(mean_views(features), labels, class_vectors)
    state = head.state()
    return HeadPart(
        trained_count=state["weights"].size + state["offsets"].size,
        selection=_selection(labels),
        views=views,
        class_vectors=class_vectors,
        state=state,
    )


def train_channel(
    config: HeadConfig, features: np.ndarray, labels: np.ndarray, class_vectors: np.ndarray
) -> ChannelPart:
    """Fits scales and shifts of channels, then LP++ behind them.

    features[N,P,E] and class_vectors[K,E] are those of CLIP with LoRA merged.
    """
    rows = mean_views(features)
    channel = ChannelReweighting().fit(rows, labels, class_vectors)
    head = LPPlusPlus(n_iter=config.n_iter).fit(
        channel.transform(rows), labels, channel.transform_text(class_vectors)
    )
    return ChannelPart(
        trained_count=channel.count,
        selection=_selection(labels),
        channel_state=channel.state(),
        head_state=head.state(),
    )


def train_gda(features: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> GdaPart:
    """Fits the discriminant to features[N,P,E] of plain CLIP, next to zero-shot logits[N,K]."""
    gda = GaussianDiscriminant().fit(mean_views(features), labels, logits.shape[1])
    weight, state = gda.fit_weight(logits, labels), gda.state()
    print(f"gda: weight {weight:.4f} beside zero-shot, by leave-one-out", flush=True)
    return GdaPart(
        trained_count=state["weights"].size + state["offsets"].size,
        selection={"weight": "by leave-one-out cross-entropy over the shots"},
        weight=weight,
        state=state,
    )


def _selection(labels: np.ndarray) -> dict[str, str]:
    """Returns which settings of the head these shots chose, and how."""
    by_folds = len(labels) >= SHOTS_FOR_FOLDS * len(np.unique(labels))
    return {"penalty": "by held-out cross-entropy on folds of the shots"} if by_folds else {}

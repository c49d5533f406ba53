"""Parts made by hand, for tests that need no training."""

import numpy as np

from data.label_space import LabelSpace
from data.views import Crops, Views
from fewshot.stages.parts import (
    AuxiliaryPart,
    ChannelPart,
    GdaPart,
    HeadPart,
    LoraPart,
    OodPart,
    Parts,
    PromptPart,
    TextPart,
)
from models.lora import LoraConfig

NOTHING = np.zeros((0, 0), np.float32)


def text_part(
    text_features: np.ndarray,
    base_ids: list[int],
    *,
    names: list[str] | None = None,
    sentences: list[list[str]] | None = None,
    logit_scale: float = 100.0,
    trained_count: int = 0,
) -> TextPart:
    """A text part of text_features[C,E]; by default class k is called "Animal_k"."""
    classes = names or [f"Animal_{k}" for k in range(len(text_features))]
    sentences = sentences or [[f"a photo of a {name}."] for name in classes]
    return TextPart(
        label_space=LabelSpace(tuple(classes), tuple(base_ids)),
        shots=[],
        weights_sha256="",
        logit_scale=logit_scale,
        names=classes,
        sentences=sentences,
        sentence_weights=[[1 / len(group)] * len(group) for group in sentences],
        text_features=text_features,
        trained_count=trained_count,
    )


def make_parts(
    text: TextPart,
    class_vectors: np.ndarray = NOTHING,
    *,
    head_state: dict | None = None,
    channel_state: dict | None = None,
    channel_head_state: dict | None = None,
    gda: GdaPart | None = None,
    auxiliary_state: dict | None = None,
    trained_counts: dict[str, int] | None = None,
) -> Parts:
    """Parts of which only what is given means anything; trained_counts are given by stage."""
    counts = trained_counts or {}
    auxiliary = None
    if auxiliary_state is not None:
        auxiliary = AuxiliaryPart(weights_sha256="", ridge=1.0, weight=1.0, state=auxiliary_state)
    return Parts(
        text=text,
        prompt=PromptPart(
            tokens=4,
            words="",
            position="front",
            per_class=False,
            beta=0.5,
            epochs=[1],
            weights=np.ones(1),
            contexts=NOTHING,
            queue_vectors=class_vectors,
            class_vectors=class_vectors,
            trained_count=counts.get("prompt", 0),
        ),
        lora=LoraPart(config=LoraConfig(), state={}, trained_count=counts.get("lora", 0)),
        head=HeadPart(
            views=Views(1, Crops(), 1),
            text_features=class_vectors,
            queue_vectors=class_vectors,
            class_vectors=class_vectors,
            state=head_state or {},
            trained_count=counts.get("head", 0),
        ),
        channel=ChannelPart(
            channel_state=channel_state or {},
            head_state=channel_head_state or {},
            trained_count=counts.get("channel", 0),
        ),
        gda=gda or GdaPart(weight=0.0, state={}, trained_count=counts.get("gda", 0)),
        ood=OodPart(words=[], vectors=NOTHING, state={}, offsets={}, thresholds={}),
        auxiliary=auxiliary,
    )

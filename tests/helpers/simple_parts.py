"""Parts without training, for tests that need no trained numbers."""

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
) -> TextPart:
    """Returns a text part of text_features[C,E]; by default class k is called "Animal_k"."""
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
) -> Parts:
    """Returns parts in which only the arguments hold meaningful values."""
    auxiliary = None
    if auxiliary_state is not None:
        auxiliary = AuxiliaryPart(weights_sha256="", state=auxiliary_state)
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
            class_vectors=class_vectors,
        ),
        lora=LoraPart(config=LoraConfig(), state={}),
        head=HeadPart(
            views=Views(1, Crops(), 1),
            class_vectors=class_vectors,
            state=head_state or {},
        ),
        channel=ChannelPart(
            channel_state=channel_state or {},
            head_state=channel_head_state or {},
        ),
        gda=gda or GdaPart(weight=0.0, state={}),
        ood=OodPart(words=[], vectors=NOTHING, state={}, offsets={}, thresholds={}),
        auxiliary=auxiliary,
    )

"""What all stages of a training share: the encoder, the shots and their classes."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from data.few_shot_splits import Shots
from data.label_space import LabelSpace
from data.views import Views
from engine.device import precision_in_use
from engine.plain_data import to_plain
from fewshot.features.encoder import Encoder, code_version
from fewshot.stages.parts import LoraPart, TextPart
from fewshot.stages.record import TRAINING
from models.heads.zero_shot import text_logits
from models.normalize import unit_rows


@dataclass(frozen=True)
class Task:
    """N shots of K base classes, seen in P views through a CLIP with embeddings of width E."""

    encoder: Encoder  # CLIP as it came
    label_space: LabelSpace  # base classes: those with a shot
    shots: Shots
    views: Views  # of each shot, for prompts and heads
    _tuned_encoders: dict[str, Encoder] = field(default_factory=dict, init=False)

    @cached_property
    def labels(self) -> np.ndarray:
        """int[N]: the columns of the shots' classes, 0 to K - 1."""
        return self.label_space.base_columns(self.shots.ids)

    @cached_property
    def inputs(self) -> dict:
        """What every part depends on, as plain data."""
        return {
            "weights": self.encoder.weights_sha256,
            "code": code_version(TRAINING),
            "device": self.encoder.device,
            "precision": precision_in_use(),
            "shots": self.shots.digest,
        }

    @cached_property
    def inputs_with_crops(self) -> dict:
        """What a part depends on that learns from crops of the shots."""
        crops = to_plain(self.views.crops)
        return self.inputs | {"seed": self.views.seed, "crops": crops}

    @cached_property
    def inputs_with_views(self) -> dict:
        """What a part depends on that learns from features of the shots' views."""
        return self.inputs_with_crops | {"views": self.views.count}

    def features(self) -> np.ndarray:
        """Returns features[N,P,E] of the shots' views through CLIP as it came."""
        return self.encoder.encode_training_views(self.shots.paths, self.views)

    def zero_shot_logits(self, text: TextPart) -> np.ndarray:
        """Returns the zero-shot logits[N,K] of the shots."""
        return text_logits(mean_views(self.features()), text.base_features, text.logit_scale)

    def tuned_encoder(self, lora: LoraPart) -> Encoder:
        """Returns the encoder with a LoRA part merged; its model is read once."""
        encoder = self.encoder.with_lora(lora.config, lora.state)
        return self._tuned_encoders.setdefault(encoder.variant, encoder)


def mean_views(features: np.ndarray) -> np.ndarray:
    """Returns [N,E], the normalised mean of each image's normalised views, of features[N,P,E].

    There is one row per image, so that the settings of the heads mean the same for any number of
    views.
    """
    return unit_rows(unit_rows(features).mean(axis=1)).astype(np.float32)

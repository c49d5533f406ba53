"""The logits of the base classes from features and trained parts, and their ensemble.

N images, K base classes, E embedding, W width of the auxiliary features.
"""

from dataclasses import dataclass

import numpy as np

from fewshot.inference.classifiers import ENSEMBLE, ENSEMBLE_WEIGHTS
from fewshot.stages.parts import Parts
from models.heads.auxiliary_bias import AuxiliaryBias
from models.heads.channel_reweighting import ChannelReweighting
from models.heads.gda import GaussianDiscriminant
from models.heads.lpplusplus import LPPlusPlus
from models.heads.zero_shot import text_logits


@dataclass(frozen=True)
class Features:
    """The same images through each encoder. A row of zeros is an image that could not be read."""

    plain: np.ndarray  # [N,E] of CLIP as it came
    tuned: np.ndarray  # [N,E] of CLIP with LoRA merged
    auxiliary: np.ndarray | None = None  # [N,W] of the second encoder, if there is one

    @property
    def unreadable(self) -> np.ndarray:
        """bool[N]: which images could not be read."""
        return ~self.plain.any(axis=1)

    def filled(self) -> "Features":
        """Returns the features with ones for unreadable images, because heads refuse zeros."""
        empty = self.unreadable[:, None]

        def fill(array: np.ndarray) -> np.ndarray:
            return np.where(empty, array.dtype.type(1), array)

        auxiliary = None if self.auxiliary is None else fill(self.auxiliary)
        return Features(fill(self.plain), fill(self.tuned), auxiliary)


class Ensemble:
    """The classifiers of the base classes, rebuilt from the trained parts."""

    def __init__(self, parts: Parts):
        self.parts = parts
        self.lpplusplus = LPPlusPlus.from_state(parts.head.state)
        self.channel = ChannelReweighting.from_state(parts.channel.channel_state)
        self.channel_head = LPPlusPlus.from_state(parts.channel.head_state)
        self.gda = GaussianDiscriminant.from_state(parts.gda.state)
        self.auxiliary = None
        if parts.auxiliary is not None:
            self.auxiliary = AuxiliaryBias.from_state(parts.auxiliary.state)

    def logits(self, features: Features) -> dict[str, np.ndarray]:
        """Returns logits[N,K] by the id of the classifier.

        These are the single classifiers, the ensemble without each of its members, and the
        ensemble. The auxiliary bias is added to the ensemble if there is a second encoder.
        """
        text, scale = self.parts.text, self.parts.text.logit_scale
        logits = {
            "zero_shot": text_logits(features.plain, text.base_features, scale),
            "prompts": text_logits(features.plain, self.parts.prompt.class_vectors, scale),
            "lora": text_logits(features.tuned, self.parts.head.class_vectors, scale),
            "lpplusplus": self.lpplusplus.decision_function(features.tuned),
        }
        reweighted = self.channel.transform(features.tuned)
        logits["channel"] = self.channel_head.decision_function(reweighted)
        gda = self.gda.decision_function(features.plain)
        logits["gda"] = logits["zero_shot"] + np.float32(self.parts.gda.weight) * gda
        bias: np.ndarray | np.float32 = np.float32(0)
        if self.auxiliary is not None and features.auxiliary is not None:
            bias = self.auxiliary.decision_function(features.auxiliary)
            logits["auxiliary"] = logits["channel"] + bias
        total = np.asarray(sum(share * logits[id] for id, share in ENSEMBLE_WEIGHTS.items()))
        for member, share in ENSEMBLE_WEIGHTS.items():
            rest = (total - share * logits[member]) / np.float32(1 - share)
            logits[f"ensemble_without_{member}"] = rest + bias
        if "auxiliary" in logits:
            logits["ensemble_without_auxiliary"] = total
        return logits | {ENSEMBLE: total + bias}

"""From features and trained parts to the scores of every class.

N images, C classes, K of them base, E embedding.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax, logsumexp

from fewshot.stages import Parts
from models.auxiliary import AuxiliaryBias
from models.channel import ChannelReweighting
from models.gda import GaussianDiscriminant
from models.head import LPPlusPlus
from models.lpplusplus_geometry import unit_rows

# Shares of the ways to score in the logits that are submitted; docs/head.md says how chosen.
BLEND = {
    "zero-shot + GDA": 0.1,
    "+ prompt queue": 0.1,
    "+ LoRA": 0.2,
    "+ channel re-weighting": 0.6,
}
SUBMITTED, WITHOUT = "blended", "blended without "


@dataclass(frozen=True)
class Features:
    """The same images through each encoder; a row of zeros is an image that could not be read."""

    plain: np.ndarray  # [N,E] of CLIP as it came
    tuned: np.ndarray  # [N,E] of CLIP with LoRA merged
    auxiliary: np.ndarray | None = None  # [N,W] of the second encoder, where there is one

    def rows(self, chosen: np.ndarray) -> "Features":
        """The features of some images."""
        second = None if self.auxiliary is None else self.auxiliary[chosen]
        return Features(self.plain[chosen], self.tuned[chosen], second)


def text_logits(features: np.ndarray, text: np.ndarray, scale: float) -> np.ndarray:
    """[N,K]: cosines times CLIP's own temperature.

    Added up in float64, so that a row scores the same whatever rows are beside it.
    """
    cosines = unit_rows(features.astype(np.float64)) @ unit_rows(text.astype(np.float64)).T
    return (scale * cosines).astype(np.float32)


def base_logits(features: Features, parts: Parts) -> dict[str, np.ndarray]:
    """Logits [N,K] of the base classes: each way that begins with + one part further than the one
    before, then the blend and what it would be without each of its members.
    """
    text, scale = parts["text"], parts["text"]["logit_scale"]
    ways = {
        "zero-shot": text_logits(features.plain, text["text_features"][text["base_ids"]], scale),
        "+ prompt queue": text_logits(features.plain, parts["prompt"]["class_vectors"], scale),
        "+ LoRA": text_logits(features.tuned, parts["head"]["class_vectors"], scale),
        "+ LP++": LPPlusPlus.from_state(parts["head"]["state"]).decision_function(features.tuned),
    }
    channel = ChannelReweighting.from_state(parts["channel"]["channel"])
    head = LPPlusPlus.from_state(parts["channel"]["state"])
    gda = GaussianDiscriminant.from_state(parts["gda"]["state"]).decision_function(features.plain)
    last = ways["+ channel re-weighting"] = head.decision_function(
        channel.transform(features.tuned)
    )
    ways["zero-shot + GDA"] = ways["zero-shot"] + np.float32(parts["gda"]["weight"]) * gda
    bias = np.float32(0)
    if features.auxiliary is not None:
        auxiliary = AuxiliaryBias.from_state(parts["auxiliary"]["state"])
        bias = auxiliary.decision_function(features.auxiliary)
        ways["+ auxiliary"] = last + bias
    blend = sum(share * ways[way] for way, share in BLEND.items())
    for way, share in BLEND.items():
        ways[f"{WITHOUT}{way}"] = (blend - share * ways[way]) / np.float32(1 - share) + bias
    if features.auxiliary is not None:
        ways[f"{WITHOUT}+ auxiliary"] = blend
    return ways | {SUBMITTED: blend + bias}


def class_scores(features: Features, parts: Parts) -> dict[str, np.ndarray]:
    """Log-probabilities [N,C] of each way to score; `SUBMITTED` is the one to hand in.

    The trained parts know nothing of new classes, so zero-shot says how likely the image is of any
    base class at all, and they only share that out:

        P(c) = P_zero-shot(base) P_way(c | base)  for base c,     P_zero-shot(c)  for new c.

    Each image is scored by itself. An image that could not be read gets equal scores.
    """
    text = parts["text"]
    zero_shot = log_softmax(
        text_logits(features.plain, text["text_features"], text["logit_scale"]), axis=1
    )
    known = np.flatnonzero(features.plain.any(axis=1))
    scores = {}
    for way, logits in base_logits(features.rows(known), parts).items() if known.size else ():
        scores[way] = zero_shot.copy()
        base = np.ix_(known, text["base_ids"])
        mass = logsumexp(zero_shot[base], axis=1, keepdims=True)
        scores[way][base] = mass + log_softmax(logits, axis=1)
    return scores or {SUBMITTED: zero_shot}

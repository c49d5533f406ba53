"""From features and trained parts to the scores of every class.

N images, C classes, K of them base, E embedding.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from fewshot.stages.pipeline import Parts
from models.heads.auxiliary_bias import AuxiliaryBias
from models.heads.channel_reweighting import ChannelReweighting
from models.heads.gda import GaussianDiscriminant
from models.heads.lpplusplus import LPPlusPlus
from models.heads.zero_shot import text_logits

STAGE_OF = {  # the stage that makes the last part of each way to score
    "zero-shot": "text",
    "+ prompt queue": "prompt",
    "+ LoRA": "lora",
    "+ LP++": "head",
    "+ channel re-weighting": "channel",
    "zero-shot + GDA": "gda",
    "+ auxiliary": "auxiliary",
}
# What an image is scored with; the auxiliary part only where there is a second encoder.
NEEDED = tuple(stage for stage in (*STAGE_OF.values(), "ood") if stage != "auxiliary")
# Shares of the ways to score in the logits that are submitted; docs/head.md says how chosen.
ENSEMBLE_WEIGHTS = {
    "zero-shot + GDA": 0.1,
    "+ prompt queue": 0.1,
    "+ LoRA": 0.2,
    "+ channel re-weighting": 0.6,
}
SUBMITTED, WITHOUT = "blended", "blended without "
# How base and new classes are told apart, and the row of the blend under each.
ROUTINGS = {"soft": "soft routing", "hard": "hard routing", "none": "no routing"}
CERTAIN = 1e6  # log-odds beyond any difference of log-probabilities within a group


@dataclass(frozen=True)
class Features:
    """The same images through each encoder; a row of zeros is an image that could not be read."""

    plain: np.ndarray  # [N,E] of CLIP as it came
    tuned: np.ndarray  # [N,E] of CLIP with LoRA merged
    auxiliary: np.ndarray | None = None  # [N,W] of the second encoder, where there is one

    @property
    def unreadable(self) -> np.ndarray:
        """bool [N]: which images could not be read."""
        return ~self.plain.any(axis=1)

    def filled(self) -> "Features":
        """The same with ones in the rows of unreadable images, which the parts would refuse."""
        empty = self.unreadable[:, None]

        def ones(array: np.ndarray) -> np.ndarray:
            return np.where(empty, array.dtype.type(1), array)

        auxiliary = None if self.auxiliary is None else ones(self.auxiliary)
        return Features(ones(self.plain), ones(self.tuned), auxiliary)


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
    bias: np.ndarray | np.float32 = np.float32(0)
    if features.auxiliary is not None:
        auxiliary = AuxiliaryBias.from_state(parts["auxiliary"]["state"])
        bias = auxiliary.decision_function(features.auxiliary)
        ways["+ auxiliary"] = last + bias
    blend = np.asarray(sum(share * ways[way] for way, share in ENSEMBLE_WEIGHTS.items()))
    for way, share in ENSEMBLE_WEIGHTS.items():
        ways[f"{WITHOUT}{way}"] = (blend - share * ways[way]) / np.float32(1 - share) + bias
    if features.auxiliary is not None:
        ways[f"{WITHOUT}+ auxiliary"] = blend
    return ways | {SUBMITTED: blend + bias}


def routed_scores(
    base: np.ndarray, new: np.ndarray, odds: np.ndarray, threshold: float, routing: str
) -> np.ndarray:
    """Log-scores [N,K+O], base classes first, of base[N,K] and new[N,O] logits.

    soft    P(c) = sigmoid(odds) P(c | base) for base c, sigmoid(-odds) P(c | new) for new c
    hard    base classes before all new ones where odds >= threshold, after them elsewhere
    none    one softmax over both kinds of logits
    odds[N] are log-odds that an image is of any base class.
    """
    if routing == "none" or not new.shape[1]:
        return log_softmax(np.hstack([base, new]).astype(np.float64), axis=1)
    within = [log_softmax(logits.astype(np.float64), axis=1) for logits in (base, new)]
    if routing == "hard":
        odds = np.where(odds >= threshold, CERTAIN, -CERTAIN)
    shares = -np.logaddexp(0, -odds), -np.logaddexp(0, odds)  # log sigmoid of odds and -odds
    return np.hstack([log + share[:, None] for log, share in zip(within, shares, strict=True)])


def class_scores(
    features: Features, parts: Parts, odds: np.ndarray, threshold: float, routing: str
) -> dict[str, np.ndarray]:
    """Log-scores [N,C] of each way to score; `SUBMITTED` is the one to hand in.

    The trained parts know nothing of new classes: they rank base classes, zero-shot ranks new ones,
    and the odds[N] of any base class decide between them (`routed_scores`). The row "zero-shot" is
    CLIP's own softmax over all classes; the rows of `ROUTINGS` are the blend under each of them.
    An image that could not be read gets equal scores.
    """
    text = parts["text"]
    every = text_logits(features.plain, text["text_features"], text["logit_scale"])
    base = list(text["base_ids"])
    order = base + [k for k in range(every.shape[1]) if k not in set(base)]
    logits, new = base_logits(features.filled(), parts), every[:, order[len(base) :]]

    def spread(way: str, routing: str) -> np.ndarray:
        scores = np.empty(every.shape)
        scores[:, order] = routed_scores(logits[way], new, odds, threshold, routing)
        scores[features.unreadable] = -np.log(every.shape[1])
        return scores

    scores = {way: spread(way, "none" if way == "zero-shot" else routing) for way in logits}
    return scores | {row: spread(SUBMITTED, kind) for kind, row in ROUTINGS.items()}

"""The ood stage: how likely an image is of any base class, and from which score on it counts so.

Every score is of one image by itself, and every threshold is read off the shots' views alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewshot.features.encoder import Encoder
from fewshot.stages.pipeline import Parts
from fewshot.text.negatives import grouped, load_negatives, mine_negatives
from fewshot.text.prompt_files import load_templates
from models.heads.zero_shot import text_logits
from models.ood.gp_filter import GPFilter, threshold_at_tpr
from models.ood.scores import known_names, mcm, neglabel

FILTERS = ("gp", "names", "negatives", "mcm")  # the first by default; docs/ood.md compares them
UNSCALED = ("negatives", "mcm")  # no odds of base against new: made even at their threshold
CASES = ("nouns", "phrases")  # mined apart, since phrases lie nearer to everything


@dataclass(frozen=True)
class OodConfig:
    """The ood stage."""

    target_tpr: float = 0.95
    """share of the shots' held-out views that a threshold keeps as base"""

    def __post_init__(self):
        if not 0 < self.target_tpr < 1:
            raise ValueError(f"target_tpr is {self.target_tpr}; it must lie between 0 and 1")


def mined_negatives(
    encoder: Encoder, names: Sequence[str], text_features: np.ndarray
) -> tuple[list[str], np.ndarray]:
    """(words, vectors[O,E]) of prompts/negatives.json that lie far from all classes known by name.

    names[C] in words and text_features[C,E] of these classes.
    """
    template = load_templates()["plain"][0]
    listed, words, vectors = load_negatives(), [], []
    for case in CASES:
        found = encoder.encode_sentences([template.format(word) for word in listed[case]])
        chosen = mine_negatives(found, text_features, listed[case], names)
        words += [listed[case][place] for place in chosen]
        vectors.append(found[chosen])
    return words, np.concatenate(vectors)


def train_ood(
    config: OodConfig,
    features: np.ndarray,
    labels: np.ndarray,
    text: dict,
    negatives: tuple[list[str], np.ndarray],
) -> dict:
    """The ood part. features[N,P,E] of the shots' views, labels[N] in 0..K-1, the text part, and
    (words, vectors[O,E]) that name no class.
    """
    words, vectors = negatives
    base, new = split_text(text)
    fitted = GPFilter("new" if len(new) else "negatives").fit(
        features,
        labels,
        base,
        new if len(new) else vectors,
        logit_scale=text["logit_scale"],
        target_tpr=config.target_tpr,
    )
    state = fitted.state()
    part: dict[str, Any] = {"words": words, "vectors": vectors, "state": state, "even": {}}
    part["thresholds"] = {"gp": fitted.threshold_}
    rows = features.reshape(-1, features.shape[2])
    for name in FILTERS[1:]:
        odds = base_odds({"text": text, "ood": part}, name, rows)
        part["thresholds"][name] = threshold_at_tpr(odds, config.target_tpr)
    for name in UNSCALED:
        threshold = part["thresholds"].pop(name)
        part["even"][name] = threshold if np.isfinite(threshold) else 0.0  # of a single class
        part["thresholds"][name] = 0.0
    return part | {
        "trainable": sum(array.size for array in state.values()),
        "selection": {"thresholds": f"keep {config.target_tpr} of the shots' views, held out"},
    }


def split_text(text: dict) -> tuple[np.ndarray, np.ndarray]:
    """(base[K,E], new[O,E]) of the text part's class vectors."""
    is_base = np.isin(np.arange(len(text["class_names"])), text["base_ids"])
    return text["text_features"][text["base_ids"]], text["text_features"][~is_base]


def base_odds(parts: Parts, name: str, features: np.ndarray) -> np.ndarray:
    """Log-odds [N] that features[N,E] of CLIP as it came are of any base class, by one of FILTERS.

    gp         names and shots of the base classes against the new names, else against negatives
    names      zero-shot's own mass on base names beside the new names, else beside negatives
    negatives  the same beside groups of negatives (NegLabel)
    mcm        the largest softmax probability of a base class
    """
    text, part = parts["text"], parts["ood"]
    if name == "gp":
        return GPFilter.from_state(part["state"]).score(features)
    base, new = split_text(text)
    logits, even = text_logits(features, base, text["logit_scale"]), part["even"].get(name, 0.0)
    if name == "mcm":
        return mcm(logits) - even
    if name == "names" and len(new):
        return known_names(logits, text_logits(features, new, text["logit_scale"]))
    others = text_logits(features, part["vectors"], text["logit_scale"])
    return neglabel(logits, others, grouped(len(part["vectors"]))) - even

"""The ood stage: how likely an image is of any base class, and the threshold for routing it there.

Every score is of one image by itself. Every threshold is chosen on the shots' views alone.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.plain_data import to_plain
from fewshot.features.encoder import Encoder
from fewshot.stages.ood_log_odds import FILTERS, ood_log_odds
from fewshot.stages.parts import OodPart, TextPart
from fewshot.stages.pipeline import Stage
from fewshot.stages.task import Task
from fewshot.text.negatives import NEGATIVES, load_negatives, mine_negatives
from fewshot.text.prompt_files import TEMPLATES, load_templates
from models.ood.gp_filter import GPFilter, threshold_at_tpr
from weight_files.hashing import sha256_of

NO_LOG_ODDS = ("negatives", "mcm")  # filters whose scores are shifted to 0 at their threshold
KINDS = ("nouns", "phrases")  # mined separately, because phrases lie nearer to everything


@dataclass(frozen=True)
class OodConfig:
    """The ood stage."""

    target_tpr: float = 0.95
    """share of the shots' held-out views that a threshold keeps as base"""

    def __post_init__(self):
        if not 0 < self.target_tpr < 1:
            raise ValueError(f"target_tpr is {self.target_tpr}; it must lie between 0 and 1")


def ood_stage(task: Task, config: OodConfig) -> Stage:
    """Returns the stage that fits the filter and chooses the thresholds."""

    def make(text: TextPart) -> OodPart:
        negatives = mined_negatives(task.encoder, text.names, text.text_features)
        return train_ood(config, task.features(), task.labels, text, negatives)

    inputs = {"ood": to_plain(config), "negatives": sha256_of(NEGATIVES)}
    inputs |= {"templates": sha256_of(TEMPLATES)}
    return Stage("ood", OodPart, task.inputs_with_views | inputs, make, ("text",))


def mined_negatives(
    encoder: Encoder, names: Sequence[str], text_features: np.ndarray
) -> tuple[list[str], np.ndarray]:
    """Returns words of prompts/negatives.json that lie far from all classes, and vectors[O,E].

    names[C] are the names of the classes in words, text_features[C,E] their vectors.
    """
    template = load_templates()["plain"][0]
    listed, words, vectors = load_negatives(), [], []
    for kind in KINDS:
        encoded = encoder.encode_sentences([template.format(word) for word in listed[kind]])
        chosen = mine_negatives(encoded, text_features, listed[kind], names)
        words += [listed[kind][index] for index in chosen]
        vectors.append(encoded[chosen])
    return words, np.concatenate(vectors)


def train_ood(
    config: OodConfig,
    features: np.ndarray,
    labels: np.ndarray,
    text: TextPart,
    negatives: tuple[list[str], np.ndarray],
) -> OodPart:
    """Fits the filter to features[N,P,E] of the shots' views and chooses every filter's threshold.

    labels[N] are in 0..K-1. `negatives` are words that name no class, and their vectors[O,E].
    """
    words, vectors = negatives
    has_new = len(text.new_features) > 0
    gp_filter = GPFilter("new" if has_new else "negatives").fit(
        features,
        labels,
        text.base_features,
        text.new_features if has_new else vectors,
        logit_scale=text.logit_scale,
        target_tpr=config.target_tpr,
    )
    state = gp_filter.state()
    part = OodPart(
        trained_count=sum(array.size for array in state.values()),
        selection={"thresholds": f"keep {config.target_tpr} of the shots' views, held out"},
        words=words,
        vectors=vectors,
        state=state,
        offsets={},
        thresholds={},
    )
    thresholds, offsets = {"gp": gp_filter.threshold_}, {}
    rows = features.reshape(-1, features.shape[2])
    for name in FILTERS[1:]:
        log_odds = ood_log_odds(name, rows, text, part)
        thresholds[name] = threshold_at_tpr(log_odds, config.target_tpr)
        if name in NO_LOG_ODDS:
            offsets[name] = thresholds[name] if np.isfinite(thresholds[name]) else 0.0
            thresholds[name] = 0.0
    return dataclasses.replace(part, offsets=offsets, thresholds=thresholds)

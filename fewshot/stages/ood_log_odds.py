"""How likely an image is of any base class, by the parts of the text and the ood stage."""

import numpy as np

from fewshot.stages.parts import OodPart, TextPart
from models.heads.zero_shot import text_logits
from models.ood.gp_filter import GPFilter

FILTERS = (
    "gp",
    "names",
    "negatives",
    "mcm",
)  # see docs/experiments/ood.md


def ood_log_odds(
    filter_name: str, features: np.ndarray, text: TextPart, ood: OodPart
) -> np.ndarray:
    """Returns log-odds [N] that features[N,E] of CLIP as it came show any base class.

    `filter_name` is one of FILTERS:
    - gp: the Gaussian-process filter, fitted to the names and shots of the base classes.
    - names: the zero-shot probability of the base names among base and new names, or among base
      names and negatives if there are no new classes.
    - negatives: the zero-shot probability of the base names among base names and negatives.
    - mcm: the largest zero-shot probability of a base class.
    """
    if filter_name == "gp":
        return GPFilter.from_state(ood.state).score(features)
    from models.ood.scores import deal_groups, known_names, mcm, neglabel  # for comparison only

    logits = text_logits(features, text.base_features, text.logit_scale)
    offset = ood.offsets.get(filter_name, 0.0)
    if filter_name == "mcm":
        return mcm(logits) - offset
    if filter_name == "names" and len(text.new_features):
        return known_names(logits, text_logits(features, text.new_features, text.logit_scale))
    negative_logits = text_logits(features, ood.vectors, text.logit_scale)
    return neglabel(logits, negative_logits, deal_groups(len(ood.vectors))) - offset

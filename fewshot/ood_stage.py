"""The ood stage: how likely an image is of any base class, and from which score on it counts so."""

import numpy as np
from scipy.special import logsumexp

from models.lpplusplus_geometry import unit_rows

KEPT = 0.95  # share of the shots' views that the threshold keeps as base


def train_ood(
    features: np.ndarray,
    labels: np.ndarray,
    base_text: np.ndarray,
    other_text: np.ndarray,
    logit_scale: float,
) -> dict:
    """The ood part: features[N,P,E] of the shots' views, labels[N], base_text[K,E],
    other_text[M,E].
    """
    part = {"base_text": base_text, "other_text": other_text, "logit_scale": logit_scale}
    scores = base_odds(part, "mass", features.reshape(-1, features.shape[2]))
    return part | {"thresholds": {"mass": float(np.quantile(scores, 1 - KEPT))}}


def base_odds(part: dict, name: str, features: np.ndarray) -> np.ndarray:
    """Log-odds [N] that an image is of any base class."""
    rows, scale = unit_rows(features.astype(np.float64)), part["logit_scale"]
    if not len(part["other_text"]):
        return np.zeros(len(rows))
    base, other = (scale * rows @ part[f"{kind}_text"].T for kind in ("base", "other"))
    return logsumexp(base, axis=1) - logsumexp(other, axis=1)


def threshold_of(part: dict, name: str) -> float:
    """The score from which an image counts as base."""
    return part["thresholds"][name]

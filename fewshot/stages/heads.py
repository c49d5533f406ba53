"""The head stages: LP++ on features of the merged CLIP, alone and on re-weighted channels, and a
Gaussian companion beside zero-shot, in closed form.
"""

from dataclasses import dataclass

import numpy as np

from models.heads.channel_reweighting import ChannelReweighting
from models.heads.gda import GaussianDiscriminant
from models.heads.lpplusplus import SHOTS_FOR_FOLDS, LPPlusPlus
from models.normalize import unit_rows


@dataclass(frozen=True)
class HeadConfig:
    """The head stages."""

    n_iter: int = 100
    """updates of the LP++ head"""


def mean_views(features: np.ndarray) -> np.ndarray:
    """features[N,P,E] -> [N,E]: the normalised mean of each image's normalised views.

    One row an image, so that the head's settings mean the same for any number of views.
    """
    return unit_rows(unit_rows(features).mean(axis=1)).astype(np.float32)


def train_head(
    config: HeadConfig, features: np.ndarray, labels: np.ndarray, class_vectors: np.ndarray
) -> dict:
    """The head part. features[N,P,E] and class_vectors[K,E] of the merged CLIP, labels[N]."""
    head = LPPlusPlus(n_iter=config.n_iter).fit(mean_views(features), labels, class_vectors)
    state = head.state()
    return {
        "trainable": state["weights"].size + state["offsets"].size,
        "metrics": last_loss(head),
        "selection": selection(labels),
        "state": state,
    }


def last_loss(head: LPPlusPlus) -> dict[str, float]:
    """The loss after the last update; nothing where there was none."""
    return {"loss": head.loss_history_[-1]} if head.loss_history_ else {}


def selection(labels: np.ndarray) -> dict:
    """Which of the head's settings these shots chose, and how."""
    by_folds = len(labels) >= SHOTS_FOR_FOLDS * len(np.unique(labels))
    return {"penalty": "by held-out cross-entropy on folds of the shots"} if by_folds else {}


def train_channel(
    config: HeadConfig, features: np.ndarray, labels: np.ndarray, class_vectors: np.ndarray
) -> dict:
    """The channel part: scales and shifts, and a head fitted behind them; arguments as above."""
    rows = mean_views(features)
    channel = ChannelReweighting().fit(rows, labels, class_vectors)
    head = LPPlusPlus(n_iter=config.n_iter).fit(
        channel.transform(rows), labels, channel.transform_text(class_vectors)
    )
    return {
        "trainable": channel.count,
        "metrics": last_loss(head),
        "selection": selection(labels),
        "channel": channel.state(),
        "state": head.state(),
    }


def train_gda(features: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> dict:
    """The gda part. features[N,P,E] of CLIP as it came, labels[N], its zero-shot logits[N,K]."""
    gda = GaussianDiscriminant().fit(mean_views(features), labels, logits.shape[1])
    weight, state = gda.fit_weight(logits, labels), gda.state()
    print(f"gda: weight {weight:.4f} beside zero-shot, by leave-one-out", flush=True)
    return {
        "trainable": state["weights"].size + state["offsets"].size,
        "selection": {"weight": "by leave-one-out cross-entropy over the shots"},
        "weight": weight,
        "state": state,
    }

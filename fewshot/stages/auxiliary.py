"""The auxiliary stage: a second frozen encoder's say, where its weight file is there."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.views import Views
from fewshot.features.encoder import Encoder
from fewshot.stages.heads import mean_views
from models.heads.auxiliary_bias import AuxiliaryBias


def train_auxiliary(
    encoder: Encoder, paths: Sequence[Path], views: Views, labels: np.ndarray, logits: np.ndarray
) -> dict:
    """The auxiliary part, from the auxiliary encoder and zero-shot logits[N,K] of the shots."""
    bias = AuxiliaryBias().fit(
        mean_views(encoder.encode_training_views(paths, views)), labels, logits
    )
    state = bias.state()
    print(f"auxiliary: ridge {bias.ridge_}, weight {bias.weight_:.2f}, both by leave-one-out")
    return {
        "trainable": state["weights"].size + state["offsets"].size,
        "selection": {"ridge, weight": "by leave-one-out cross-entropy over the shots"},
        "weights": encoder.weights_sha256,
        "ridge": bias.ridge_,
        "weight": bias.weight_,
        "state": state,
    }

"""The auxiliary stage: a second frozen encoder's say, where its weight file is there."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fewshot.features.encoder import Encoder, Tower, Views, clip_tower
from fewshot.stages.heads import mean_views
from models.backbones.moco import FEATURES, RESOLUTION, load_moco, to_array
from models.heads.auxiliary_bias import AuxiliaryBias
from weight_files import safe_load


def auxiliary_tower(weights: Path) -> Tower:
    """The image tower of another CLIP, or a ResNet-50 trained by MoCo v3: the file's names tell."""
    if any("text_projection" in name for name in safe_load(weights)):
        return clip_tower(weights)
    encoder, preprocess = load_moco(weights)
    return Tower(encoder, encoder.encode, FEATURES, RESOLUTION, preprocess, to_array)


def auxiliary_encoder(encoder: Encoder, weights: Path) -> Encoder:
    """An encoder of the auxiliary weights that works as the given one does."""
    return dataclasses.replace(encoder, weights=weights, load_tower=auxiliary_tower)


def train_auxiliary(
    encoder: Encoder, paths: Sequence[Path], views: Views, labels: np.ndarray, logits: np.ndarray
) -> dict:
    """The auxiliary part, from the auxiliary encoder and zero-shot logits[N,K] of the shots."""
    bias = AuxiliaryBias().fit(mean_views(encoder.views(paths, views)), labels, logits)
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

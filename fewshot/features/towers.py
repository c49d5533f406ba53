"""Networks that encode images, each with its own preprocessing.

B images, R pixels a side, E embedding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jittor as jt
import numpy as np
from PIL import Image

import jclip
from jclip.preprocess import to_array
from models.lora import LoraAdapters, LoraConfig
from weight_files import safe_load


@dataclass(frozen=True)
class Tower:
    """A network of images and how a photo becomes its input.

    `to_array` and `side` stand for the whole preprocessing: towers that share both are given the
    same views.
    """

    module: jt.nn.Module
    encode: Callable[[jt.Var], jt.Var]  # [B,3,R,R] -> [B,E]
    width: int  # E
    side: int  # R
    centre: Callable[[Image.Image], np.ndarray]  # a photo -> its centre view [3,R,R]
    to_array: Callable[[Image.Image], np.ndarray]  # an RGB crop of R x R pixels -> [3,R,R]


def clip_tower(weights: Path) -> Tower:
    """Returns the image tower of a CLIP; its `module` is the whole CLIP."""
    model, centre = jclip.load(weights)
    sizes = model.config
    return Tower(
        model, model.encode_image, sizes.embed_dim, sizes.image_resolution, centre, to_array
    )


def lora_tower(weights: Path, config: LoraConfig, state: dict) -> Tower:
    """Returns the image tower of a CLIP with LoRA merged into its weights.

    `state` is that of `LoraAdapters`. The text tower of the `module` is merged likewise.
    """
    tower = clip_tower(weights)
    adapters = LoraAdapters(tower.module, config, seed=0)
    adapters.load(state)
    adapters.merge()
    return tower


def auxiliary_tower(weights: Path) -> Tower:
    """Returns the image tower of another CLIP or of a ResNet-50 trained by MoCo v3.

    The names in the weight file decide which of them it is.
    """
    contents = safe_load(weights)
    if any("text_projection" in name for name in contents):
        return clip_tower(weights)
    from models.backbones import moco  # CLIP alone does without

    encoder, preprocess = moco.load_moco(contents, weights), moco.preprocess
    return Tower(encoder, encoder.encode, moco.FEATURES, moco.RESOLUTION, preprocess, moco.to_array)

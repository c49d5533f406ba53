"""A second, frozen image encoder next to CLIP: a ResNet-50 trained by MoCo v3, without labels.

Sources: MoCo v3 (Chen et al. 2021, https://arxiv.org/abs/2104.02057); next to CLIP as in AMU-Tuning
(Tang et al., CVPR 2024, https://arxiv.org/abs/2404.08958). Shapes: B images, R pixels a side.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jittor as jt
import numpy as np
from jittor import nn
from jittor.models import resnet50
from PIL import Image

import jclip.preprocess
from jclip.preprocess import MAX_PIXELS, centre_crop
from jclip.weights import assign, to_float32, unwrap

FEATURES = 2048
RESIZED, RESOLUTION = 256, 224  # pixels: first the short side, then each side of the central crop
MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # ImageNet's, of R, G, B in [0, 1]
STD = np.array([0.229, 0.224, 0.225], np.float32)
# The base encoder learned by gradients, and MoCo v3 itself evaluates it. The momentum encoder, its
# running average, is used if there is no other.
ENCODERS = ("base_encoder.", "momentum_encoder.")
HEADS = ("fc.", "predictor.")  # used in pre-training only


class MocoEncoder(jt.Module):
    """Images to the features that MoCo v3 evaluates: the pooled last stage of a ResNet-50."""

    def __init__(self):
        self.resnet = resnet50(num_classes=1)
        self.resnet.fc = nn.Identity()

    def encode(self, images: jt.Var | np.ndarray) -> jt.Var:
        """Encodes preprocessed images [B, 3, R, R], float32, to features [B, 2048].

        The features are not normalised, and no gradient flows. Raises ValueError if the images have
        another shape.
        """
        images = jt.array(images)
        shape = tuple(images.shape)
        if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
            raise ValueError(f"images have shape {shape}, this encoder takes [B, 3, R, R]")
        with jt.no_grad():
            return self.resnet(images)


def load_moco(contents: Mapping[str, Any], source: str | Path) -> MocoEncoder:
    """Returns the encoder in a file's contents, frozen, in evaluation mode.

    `contents` are a checkpoint of MoCo v3 or a dictionary under torchvision's names. Raises
    ValueError, naming `source`, unless names, shapes and numbers are those of a ResNet-50.
    """
    encoder = MocoEncoder()
    assign(encoder.resnet.state_dict(), to_torchvision(contents, source), source)
    encoder.eval()
    return encoder


def to_torchvision(contents: Mapping[str, Any], source: str | Path) -> dict[str, np.ndarray]:
    """Returns float32 arrays under torchvision's names, without the heads of pre-training.

    Raises ValueError naming what is no floating-point array or not finite.
    """
    state = unwrap(contents, source)
    encoders = [prefix for prefix in ENCODERS if any(name.startswith(prefix) for name in state)]
    if encoders:
        state = {name.removeprefix(encoders[0]): value for name, value in state.items()}
    unused = (*HEADS, *encoders[1:])
    return to_float32({n: v for n, v in state.items() if not n.startswith(unused)}, source)


def to_array(image: Image.Image) -> np.ndarray:
    """Converts an RGB image of R x R pixels to float32 [3, R, R], normalised as ImageNet's."""
    return jclip.preprocess.to_array(image, MEAN, STD)


def preprocess(image: Image.Image) -> np.ndarray:
    """Converts a PIL image to float32 [3, 224, 224] as MoCo v3 evaluates.

    Steps: RGB; bilinear resizing of the short side to 256, the long side rounded down; the central
    crop; ImageNet's mean and deviation. Raises ValueError for an image that is empty or too narrow.
    """
    short, long = sorted(image.size)
    if short == 0 or RESIZED * (RESIZED * long // short) > MAX_PIXELS:
        raise ValueError(f"the image is too narrow: {image.width} x {image.height} pixels")
    sides = [RESIZED if side == short else RESIZED * side // short for side in image.size]
    image = image.convert("RGB").resize(sides, Image.Resampling.BILINEAR)
    return to_array(centre_crop(image, RESOLUTION))

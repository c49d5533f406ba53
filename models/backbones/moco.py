"""A second, frozen image encoder beside CLIP: ResNet-50 trained by MoCo v3, without labels.

Sources: MoCo v3 (Chen et al. 2021, https://arxiv.org/abs/2104.02057); beside CLIP as in AMU-Tuning
(Tang et al., CVPR 2024, https://arxiv.org/abs/2404.08958). Shapes: B images, R pixels a side.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jittor as jt
import numpy as np
from jittor import nn
from jittor.models import resnet50
from PIL import Image

import jclip.preprocess
from jclip.preprocess import MOST_PIXELS, centre_crop
from jclip.weights import WRAPPERS, check_complete
from weight_files.reader import safe_load

FEATURES = 2048
RESIZED, RESOLUTION = 256, 224  # pixels: the short side first, then a side of the central cut
MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # ImageNet's, of R, G, B in [0, 1]
STD = np.array([0.229, 0.224, 0.225], np.float32)
PARALLEL = "module."  # before every name of a data-parallel model
OWN = "module"  # where the checkpoints of this kit's training loop keep the weights
# The base encoder is the one that learned by gradients and that MoCo v3 itself evaluates; the
# momentum encoder is its running average, taken where nothing else is there.
ENCODERS = ("base_encoder.", "momentum_encoder.")
HEADS = ("fc.", "predictor.")  # used in pre-training only


class MocoEncoder(jt.Module):
    """Images to the features that MoCo v3 evaluates: the pooled last stage of a ResNet-50."""

    def __init__(self):
        self.resnet = resnet50(num_classes=1)
        self.resnet.fc = nn.Identity()

    def encode(self, images: jt.Var | np.ndarray) -> jt.Var:
        """Preprocessed images [B, 3, R, R], float32 -> features [B, 2048], not normalised.

        No gradient flows. Raises ValueError where the images have another shape.
        """
        images = jt.array(images)
        shape = tuple(images.shape)
        if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
            raise ValueError(f"images have shape {shape}, this encoder takes [B, 3, R, R]")
        with jt.no_grad():
            return self.resnet(images)


def load_moco(path: str | Path) -> tuple[MocoEncoder, Callable[[Image.Image], np.ndarray]]:
    """The encoder in a weight file, frozen in evaluation mode, and `preprocess`.

    The file is a checkpoint of MoCo v3, or a dictionary under torchvision's names, in any format
    that `weight_files.safe_load` opens. Raises ValueError, naming the file, where it is unsafe or
    damaged or its names, shapes and numbers are not those of a ResNet-50.
    """
    state = canonical(safe_load(path), path)
    encoder = MocoEncoder()
    parameters = encoder.resnet.state_dict()
    check_complete(state, {name: tuple(p.shape) for name, p in parameters.items()}, path)
    for name, parameter in parameters.items():
        parameter.update(jt.array(state[name]))
    encoder.eval()
    return encoder, preprocess


def canonical(contents: Mapping[str, object], path: str | Path) -> dict[str, np.ndarray]:
    """The ResNet in a file's contents: float32 arrays under torchvision's names, without heads.

    Raises ValueError naming what is no floating-point array or not finite.
    """
    state = unwrapped(contents)
    found = [prefix for prefix in ENCODERS if any(name.startswith(prefix) for name in state)]
    taken, others = (found[0], tuple(found[1:])) if found else ("", ())
    others, kept = HEADS + others, {}
    for name, value in state.items():
        name = name.removeprefix(taken)
        if not name.startswith(others):
            kept[name] = value
    return float_arrays(kept, path)


def unwrapped(contents: Mapping[str, Any]) -> Mapping[str, Any]:
    """The dictionary of weights in a checkpoint, without the `module.` of data parallelism."""
    keys = (*WRAPPERS, OWN)
    inner = (contents[key] for key in keys if isinstance(contents.get(key), dict))
    state = next(inner, contents)
    if all(name.startswith(PARALLEL) for name in state):
        state = {name.removeprefix(PARALLEL): value for name, value in state.items()}
    return state


def float_arrays(state: Mapping[str, object], path: str | Path) -> dict[str, np.ndarray]:
    """The weights as C-ordered float32, without the counters of batch norm.

    Raises ValueError naming what is no floating-point array or not finite.
    """
    result, wrong = {}, []
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            wrong.append(name)
            continue
        with np.errstate(over="ignore"):  # a float64 too large becomes infinite, refused below
            result[name] = np.ascontiguousarray(value, dtype=np.float32)
        if not np.isfinite(result[name]).all():
            wrong.append(name)
    if wrong:
        raise ValueError(f"{path} holds what are no finite numbers: {', '.join(wrong[:5])}")
    return result


def to_array(image: Image.Image) -> np.ndarray:
    """An RGB image of R x R pixels -> float32 [3, R, R], normalised as ImageNet's."""
    return jclip.preprocess.to_array(image, MEAN, STD)


def preprocess(image: Image.Image) -> np.ndarray:
    """PIL image -> float32 [3, 224, 224], as MoCo v3 evaluates.

    RGB; bilinear, the short side to 256 and the long side rounded down; the central cut; ImageNet's
    mean and deviation. Raises ValueError for an image that is empty or too narrow.
    """
    short, long = sorted(image.size)
    if short == 0 or RESIZED * (RESIZED * long // short) > MOST_PIXELS:
        raise ValueError(f"the image is too narrow: {image.width} x {image.height} pixels")
    sides = [RESIZED if side == short else RESIZED * side // short for side in image.size]
    image = image.convert("RGB").resize(sides, Image.Resampling.BILINEAR)
    return to_array(centre_crop(image, RESOLUTION))

"""Builds a CLIP from a file of weights, or from the name of one of OpenAI's models."""

from collections.abc import Callable
from pathlib import Path

import jittor as jt
import numpy as np
from PIL import Image

from jclip.download import available_models, find_or_download
from jclip.model import CLIP
from jclip.preprocess import make_preprocess
from jclip.weights import activation_of, check_complete, load_state


def load(
    path: str | Path, activation: str | None = None
) -> tuple[CLIP, Callable[[Image.Image], np.ndarray]]:
    """A model in evaluation mode and its preprocessing, PIL image -> float32 [3, R, R].

    `path` is a file in any format that `jclip.weights` reads, or a name out of
    `jclip.available_models()`. `activation` ("quick_gelu" or "gelu") overrides what the file says.
    Raises ValueError where the file is not the weights of a CLIP or is incomplete, and
    FileNotFoundError where `path` is neither a file nor a name.
    """
    file = Path(find_or_download(str(path)) if str(path) in available_models() else path)
    if not file.is_file():
        names = ", ".join(available_models())
        raise FileNotFoundError(f"{path} is neither a file of weights nor one of {names}")
    state, sizes = load_state(file)
    activation = activation or activation_of(file) or "quick_gelu"
    model = CLIP(sizes, activation, initialised=False)
    assign(model, state, file)
    model.eval()
    return model, make_preprocess(sizes.image_resolution)


def assign(model: CLIP, state: dict[str, np.ndarray], path: Path) -> None:
    """Sets every parameter and running statistic; ValueError unless `state` fits exactly."""
    parameters = dict(model.named_parameters())
    check_complete(state, {name: tuple(p.shape) for name, p in parameters.items()}, path)
    for name, parameter in parameters.items():
        parameter.update(jt.array(state[name].reshape(parameter.shape)))

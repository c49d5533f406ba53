"""Public weights of torchvision and timm, loaded strictly and without torch."""

from math import isqrt
from pathlib import Path

import jittor as jt
import numpy as np
from PIL import Image

from jclip.weights import check_complete
from models.backbones.moco import float_arrays, unwrapped
from models.backbones.networks import Network
from models.backbones.vit import VisionTransformer
from weight_files.reader import safe_load


def load_pretrained(
    module: Network,
    path: str | Path,
    *,
    classes: str = "keep",
    positions: str = "keep",
    prefix: str = "",
) -> None:
    """Puts the weights of a file that `weight_files.safe_load` opens into a network of `build`.

    Every name and shape must be the network's. classes="replace" leaves the network's own
    classifier as it is, whatever the file has there; positions="resize" brings a ViT's position
    embeddings to the network's grid as timm does. With a `prefix`, such as "encoder.", only the
    file's names that begin with it count, without it. Nothing changes where ValueError is raised,
    which names the file and all that does not fit.
    """
    for argument, value, known in (
        ("classes", classes, ("keep", "replace")),
        ("positions", positions, ("keep", "resize")),
    ):
        if value not in known:
            raise ValueError(f"{argument} {value!r} is none of {', '.join(known)}")
    contents = unwrapped(safe_load(path))
    named = {n.removeprefix(prefix): v for n, v in contents.items() if n.startswith(prefix)}
    state = float_arrays(named, path)
    heads = tuple(f"{name}." for name in module.head_names)
    variables = module.state_dict()
    if classes == "replace":
        variables = {n: v for n, v in variables.items() if not n.startswith(heads)}
        state = {n: v for n, v in state.items() if not n.startswith(heads)}
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    if positions == "resize" and "pos_embed" in shapes and "pos_embed" in state:
        assert isinstance(module, VisionTransformer)  # no other network has position embeddings
        tokens, prefixes = shapes["pos_embed"][1], module.prefix_tokens
        state["pos_embed"] = resized_positions(state["pos_embed"], tokens, prefixes, path)
    try:
        check_complete(state, shapes, path)
    except ValueError as error:
        raise ValueError(f"{error}{_remedy(state, shapes, heads)}") from None
    for name, variable in variables.items():
        variable.update(jt.array(state[name]))


def resized_positions(
    embedding: np.ndarray, tokens: int, prefixes: int, path: str | Path
) -> np.ndarray:
    """Position embeddings [1, L, D] -> [1, tokens, D] by bicubic interpolation of their square.

    The first `prefixes` belong to no patch and stay. Pillow's filter, which smooths where the grid
    shrinks, is the one that timm uses. Raises ValueError where a number of patches is no square.
    """
    old, new = embedding.shape[-2] - prefixes, tokens - prefixes
    sides = isqrt(max(0, old)), isqrt(new)
    if embedding.ndim != 3 or old < 1 or (sides[0] ** 2, sides[1] ** 2) != (old, new):
        raise ValueError(
            f"{path}: pos_embed {embedding.shape} is no square grid after {prefixes} tokens"
        )
    if old == new:
        return embedding
    grid = embedding[0, prefixes:].reshape(sides[0], sides[0], -1)
    planes = [
        Image.fromarray(np.ascontiguousarray(plane)).resize(
            (sides[1], sides[1]), Image.Resampling.BICUBIC
        )
        for plane in grid.transpose(2, 0, 1)
    ]
    resized = np.stack([np.asarray(plane) for plane in planes], axis=-1).reshape(1, new, -1)
    return np.concatenate([embedding[:, :prefixes], resized], axis=1)


def _remedy(state: dict, shapes: dict, heads: tuple[str, ...]) -> str:
    """What would help, where a classifier or the position embeddings have another size."""
    wrong = [n for n in shapes if n not in state or state[n].shape != shapes[n]]
    wrong += [n for n in state if n not in shapes]
    advice = []
    if any(name.startswith(heads) for name in wrong):
        advice.append('classes="replace" keeps the network\'s own classifier')
    if "pos_embed" in wrong and "pos_embed" in state and "pos_embed" in shapes:
        advice.append('positions="resize" fits the position embeddings')
    return "; " + "; ".join(advice) if advice else ""

"""Public weights of torchvision and timm, put into a network strictly and without torch."""

from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jclip.weights import assign, to_float32, unwrap
from models.backbones.networks import Network
from models.backbones.vit import VisionTransformer


def load_pretrained(
    module: Network,
    contents: Mapping[str, Any],
    source: str | Path,
    *,
    classes: str = "keep",
    positions: str = "keep",
    prefix: str = "",
) -> None:
    """Sets the parameters of a network of `networks.build` to the weights in a file's contents.

    Every name and shape must be the network's. With classes="replace" the network keeps its own
    classifier, whatever the contents have there. With positions="resize" a ViT's position
    embeddings are resized to the network's grid as timm does. With a `prefix`, such as "encoder.",
    only names that begin with it count, without it. Raises ValueError, which names `source` and all
    that does not fit; then nothing has changed.
    """
    for argument, value, known in (
        ("classes", classes, ("keep", "replace")),
        ("positions", positions, ("keep", "resize")),
    ):
        if value not in known:
            raise ValueError(f"{argument} {value!r} is none of {', '.join(known)}")
    weights = unwrap(contents, source)
    weights = {n.removeprefix(prefix): v for n, v in weights.items() if n.startswith(prefix)}
    state = to_float32(weights, source)
    heads = tuple(f"{name}." for name in module.head_names)
    variables = module.state_dict()
    if classes == "replace":
        variables = {n: v for n, v in variables.items() if not n.startswith(heads)}
        state = {n: v for n, v in state.items() if not n.startswith(heads)}
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    if positions == "resize" and "pos_embed" in shapes and "pos_embed" in state:
        assert isinstance(module, VisionTransformer)  # no other network has position embeddings
        tokens, prefixes = shapes["pos_embed"][1], module.prefix_tokens
        state["pos_embed"] = resize_positions(state["pos_embed"], tokens, prefixes, source)
    try:
        assign(variables, state, source)
    except ValueError as error:
        raise ValueError(f"{error}{_remedy(state, shapes, heads)}") from None


def resize_positions(
    embedding: np.ndarray, tokens: int, prefixes: int, source: str | Path
) -> np.ndarray:
    """Resizes position embeddings [1, L, D] to [1, tokens, D] by bicubic interpolation of the grid.

    The first `prefixes` belong to no patch and stay. Pillow's filter, which smooths when the grid
    shrinks, is the one that timm uses. Raises ValueError if a number of patches is no square.
    """
    old, new = embedding.shape[-2] - prefixes, tokens - prefixes
    old_side, new_side = isqrt(max(0, old)), isqrt(new)
    if embedding.ndim != 3 or old < 1 or (old_side**2, new_side**2) != (old, new):
        raise ValueError(f"{source}: pos_embed {embedding.shape} is no square grid")
    if old == new:
        return embedding
    grid = embedding[0, prefixes:].reshape(old_side, old_side, -1)
    planes = [Image.fromarray(np.ascontiguousarray(p)) for p in grid.transpose(2, 0, 1)]
    planes = [plane.resize((new_side, new_side), Image.Resampling.BICUBIC) for plane in planes]
    resized = np.stack([np.asarray(plane) for plane in planes], axis=-1).reshape(1, new, -1)
    return np.concatenate([embedding[:, :prefixes], resized], axis=1)


def _remedy(state: dict, shapes: dict, heads: tuple[str, ...]) -> str:
    """Returns what helps if the classifier or the position embeddings have another size."""
    wrong = [n for n in shapes if n not in state or state[n].shape != shapes[n]]
    wrong += [n for n in state if n not in shapes]
    advice = ""
    if any(name.startswith(heads) for name in wrong):
        advice += '; classes="replace" keeps the network\'s own classifier'
    if "pos_embed" in wrong and "pos_embed" in state and "pos_embed" in shapes:
        advice += '; positions="resize" fits the position embeddings'
    return advice

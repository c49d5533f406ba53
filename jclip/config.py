"""The sizes of a CLIP, and how they follow from the shapes of its weights."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

HEAD_WIDTH = 64  # of all towers of OpenAI's and OpenCLIP's, except for OpenCLIP's ViT-H:
VIT_H_WIDTH, VIT_H_HEAD_WIDTH = 1280, 80
RESNET_STRIDE = 32  # image pixels per cell of the last ResNet stage


@dataclass(frozen=True)
class ClipConfig:
    """The sizes that distinguish one CLIP from another; all others follow from these."""

    embed_dim: int  # E
    image_resolution: int  # R
    vision_layers: int | tuple[int, ...]  # blocks of a ViT, or of the four stages of a ResNet
    vision_width: int
    vision_patch_size: int | None  # P; None for a ResNet
    context_length: int
    vocab_size: int
    transformer_width: int
    transformer_heads: int
    transformer_layers: int

    @property
    def is_vit(self) -> bool:
        """Whether the image tower is a ViT; otherwise it is a ModifiedResNet."""
        return isinstance(self.vision_layers, int)

    @property
    def vision_heads(self) -> int:
        """Heads of the blocks (ViT) or of the attention pool, which is 32 widths wide (ResNet)."""
        if not self.is_vit:
            return count_heads(self.vision_width * 32)
        if self.vision_width == VIT_H_WIDTH:
            return VIT_H_WIDTH // VIT_H_HEAD_WIDTH
        return count_heads(self.vision_width)


def count_heads(width: int) -> int:
    """Returns the number of heads of an attention layer of this width; at least one."""
    return max(1, width // HEAD_WIDTH)


def infer_config(state: Mapping[str, np.ndarray]) -> ClipConfig:
    """Returns the sizes of a state under OpenAI's names; only `state[name].shape` is used.

    Raises ValueError naming the parameter that is missing or whose shape no CLIP has.
    """
    layers: int | tuple[int, ...]
    patch: int | None
    if "visual.layer1.0.conv1.weight" in state:
        layers = tuple(_count_blocks(state, f"visual.layer{stage}.") for stage in (1, 2, 3, 4))
        width = _shape(state, "visual.layer1.0.conv1.weight", 4)[0]
        patch = None
        resolution = RESNET_STRIDE * _grid_side(state, "visual.attnpool.positional_embedding")
    else:
        layers = _count_blocks(state, "visual.transformer.resblocks.")
        width, _, _, patch = _shape(state, "visual.conv1.weight", 4)
        resolution = patch * _grid_side(state, "visual.positional_embedding")
    context_length, transformer_width = _shape(state, "positional_embedding", 2)
    return ClipConfig(
        embed_dim=_shape(state, "text_projection", 2)[1],
        image_resolution=resolution,
        vision_layers=layers,
        vision_width=width,
        vision_patch_size=patch,
        context_length=context_length,
        vocab_size=_shape(state, "token_embedding.weight", 2)[0],
        transformer_width=transformer_width,
        transformer_heads=count_heads(transformer_width),
        transformer_layers=_count_blocks(state, "transformer.resblocks."),
    )


def _shape(state: Mapping[str, np.ndarray], name: str, axes: int) -> tuple[int, ...]:
    """Returns the shape of a parameter that every CLIP has, with this number of axes."""
    if name not in state:
        raise ValueError(f"not the weights of a CLIP: {name} is missing")
    shape = tuple(int(size) for size in state[name].shape)
    if len(shape) != axes or min(shape) < 1:
        raise ValueError(f"{name} has shape {shape}, but {axes} axes of at least 1 are needed")
    return shape


def _count_blocks(state: Mapping[str, np.ndarray], prefix: str) -> int:
    """Counts the different numbers after this prefix."""
    count = len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})
    if not count:
        raise ValueError(f"not the weights of a CLIP: no {prefix}0 was found")
    return count


def _grid_side(state: Mapping[str, np.ndarray], name: str) -> int:
    """Returns the side of the grid of an embedding [1 + side * side, D]."""
    rows = _shape(state, name, 2)[0]
    side = round((rows - 1) ** 0.5)
    if side < 1 or side * side != rows - 1:
        raise ValueError(f"{name} has {rows} rows, but one more than a square is needed")
    return side

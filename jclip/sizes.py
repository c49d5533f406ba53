"""The sizes of a CLIP, read from the shapes of its weights."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

HEAD_WIDTH = 64  # in all of OpenAI's towers, and in OpenCLIP's but for:
VIT_H_WIDTH, VIT_H_HEAD_WIDTH = 1280, 80
RESNET_STRIDE = 32  # image pixels to one cell of the last ResNet stage


@dataclass(frozen=True)
class ClipSizes:
    """What distinguishes one CLIP from another; the rest follows from these.

    `vision_layers` is the number of blocks of a ViT, or the four block counts of a ModifiedResNet.
    """

    embed_dim: int
    image_resolution: int  # pixels a side
    vision_layers: int | tuple[int, ...]
    vision_width: int
    vision_patch_size: int | None  # pixels a side; None for a ResNet
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
            return heads_of(self.vision_width * 32)
        if self.vision_width == VIT_H_WIDTH:
            return VIT_H_WIDTH // VIT_H_HEAD_WIDTH
        return heads_of(self.vision_width)


def heads_of(width: int) -> int:
    """The number of heads of an attention layer of this width; at least one."""
    return max(1, width // HEAD_WIDTH)


def read_sizes(state: Mapping[str, np.ndarray]) -> ClipSizes:
    """Reads the sizes from a state under OpenAI's names (`state[name].shape` is all that is used).

    Raises ValueError naming the parameter that is missing or whose shape no CLIP has.
    """
    layers: int | tuple[int, ...]
    patch: int | None
    if "visual.layer1.0.conv1.weight" in state:
        layers = tuple(_blocks(state, f"visual.layer{stage}.") for stage in (1, 2, 3, 4))
        width = _shape(state, "visual.layer1.0.conv1.weight", 4)[0]
        patch = None
        cells = _shape(state, "visual.attnpool.positional_embedding", 2)[0] - 1
        resolution = RESNET_STRIDE * _side(cells, "visual.attnpool.positional_embedding")
    else:
        layers = _blocks(state, "visual.transformer.resblocks.")
        width, _, _, patch = _shape(state, "visual.conv1.weight", 4)
        cells = _shape(state, "visual.positional_embedding", 2)[0] - 1
        resolution = patch * _side(cells, "visual.positional_embedding")
    context_length, transformer_width = _shape(state, "positional_embedding", 2)
    return ClipSizes(
        embed_dim=_shape(state, "text_projection", 2)[1],
        image_resolution=resolution,
        vision_layers=layers,
        vision_width=width,
        vision_patch_size=patch,
        context_length=context_length,
        vocab_size=_shape(state, "token_embedding.weight", 2)[0],
        transformer_width=transformer_width,
        transformer_heads=heads_of(transformer_width),
        transformer_layers=_blocks(state, "transformer.resblocks."),
    )


def _shape(state: Mapping[str, np.ndarray], name: str, axes: int) -> tuple[int, ...]:
    """The shape of a parameter that every CLIP has, with this number of axes."""
    if name not in state:
        raise ValueError(f"not the weights of a CLIP: {name} is missing")
    shape = tuple(int(size) for size in state[name].shape)
    if len(shape) != axes or min(shape) < 1:
        raise ValueError(f"{name} has shape {shape}, but {axes} axes of at least 1 are needed")
    return shape


def _blocks(state: Mapping[str, np.ndarray], prefix: str) -> int:
    """How many blocks are numbered after this prefix: 0, 1, 2 and so on without a gap."""
    count = len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})
    if not count:
        raise ValueError(f"not the weights of a CLIP: no {prefix}0 was found")
    return count


def _side(cells: int, name: str) -> int:
    """The side of a square of this many cells."""
    side = round(cells**0.5)
    if side < 1 or side * side != cells:
        raise ValueError(f"{name} has {cells + 1} rows, but one more than a square is needed")
    return side

"""ViT and DeiT with timm's names and initial values.

Sources: ViT (Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929); DeiT with the distillation
token (Touvron et al. 2021, https://arxiv.org/abs/2012.12877). Shapes: B images, C classes,
L tokens, D width, R pixels a side of an image, P of a patch, G patches a side.
"""

from dataclasses import dataclass

import jittor as jt
import numpy as np
from jittor import nn

from jclip.transformer import LayerNorm, Linear, extract_patches
from kernels.attention import self_attention
from kernels.linear import PackedWeights, linear
from models.backbones.layers import DropPath, Rule, initialise

EPSILON = 1e-6  # of every layer norm


@dataclass(frozen=True)
class VitConfig:
    """The sizes of a ViT."""

    image_size: int = 224
    """pixels per side of an image (R)"""
    patch_size: int = 16
    """pixels per side of a patch (P); divides `image_size`"""
    depth: int = 12
    """number of blocks"""
    width: int = 768
    """numbers per token (D)"""
    heads: int = 12
    """number of attention heads; divides `width`"""
    drop_path: float = 0.0
    """probability of dropping a path of the last block in training; grows from 0 with depth"""

    def __post_init__(self):
        for whole, part in (("image_size", "patch_size"), ("width", "heads")):
            a, b = getattr(self, whole), getattr(self, part)
            if b < 1 or a < b or a % b:
                raise ValueError(f"{part} {b} does not divide {whole} {a}")
        if self.depth < 1:
            raise ValueError(f"depth {self.depth} is less than 1")


WIDTHS = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}  # width, heads
SIZES = {f"{family}_{size}": shape for family in ("vit", "deit") for size, shape in WIDTHS.items()}


class PatchEmbed(jt.Module):
    """A convolution of stride P as one matrix product: [B, 3, R, R] -> [B, G*G, D]."""

    def __init__(self, patch_size: int, width: int):
        self.patch_size = patch_size
        self.proj = nn.Conv2d(3, width, patch_size, stride=patch_size)
        self.packed = PackedWeights()

    def execute(self, images: jt.Var) -> jt.Var:
        x = extract_patches(images, self.patch_size)  # [B, G*G, 3*P*P]
        return linear(self.packed, x, self.proj.weight, self.proj.bias)


class Attention(jt.Module):
    """Self-attention with one projection for query, key and value: [B, L, D] -> [B, L, D]."""

    def __init__(self, width: int, heads: int):
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def execute(self, x: jt.Var) -> jt.Var:
        return self.proj(self_attention(self.qkv(x), self.heads))


class Mlp(jt.Module):
    """Two linear layers with a width of 4D between them: [..., D] -> [..., D]."""

    def __init__(self, width: int):
        self.fc1 = Linear(width, 4 * width)
        self.fc2 = Linear(4 * width, width)

    def execute(self, x: jt.Var) -> jt.Var:
        return self.fc2(nn.gelu(self.fc1(x)))


class Block(jt.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): [B, L, D] -> [B, L, D]."""

    def __init__(self, width: int, heads: int, drop_path: float):
        self.norm1 = LayerNorm(width, eps=EPSILON)
        self.attn = Attention(width, heads)
        self.drop_path = DropPath(drop_path)
        self.norm2 = LayerNorm(width, eps=EPSILON)
        self.mlp = Mlp(width)

    def execute(self, x: jt.Var) -> jt.Var:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class VisionTransformer(jt.Module):
    """Images [B, 3, R, R] -> logits [B, C], or features [B, D] if `num_classes` is 0."""

    head_names: tuple[str, ...] = ("head",)
    layer_names: tuple[str, ...] = ()
    last_names: tuple[str, ...] = ("norm",)
    prefix_tokens = 1  # tokens before those of the patches

    def __init__(self, config: VitConfig, num_classes: int):
        self.config, self.num_classes, self.width = config, num_classes, config.width
        width = config.width
        self.block_names = tuple(f"blocks.{index}" for index in range(config.depth))
        tokens = (config.image_size // config.patch_size) ** 2 + self.prefix_tokens
        for name in self.token_names():
            setattr(self, name, jt.zeros((1, 1, width)))
        self.pos_embed = jt.zeros((1, tokens, width))
        self.patch_embed = PatchEmbed(config.patch_size, width)
        rates = np.linspace(0, config.drop_path, config.depth).tolist()
        self.blocks = nn.Sequential(*[Block(width, config.heads, rate) for rate in rates])
        self.norm = LayerNorm(width, eps=EPSILON)
        for name in self.head_names:
            setattr(self, name, nn.Linear(width, num_classes) if num_classes else nn.Identity())
        initialise(self, self._initial_rule)

    def token_names(self) -> tuple[str, ...]:
        """Returns the names of the parameters that precede the patches' tokens, in order."""
        return ("cls_token",)

    def tokens(self, images: jt.Var) -> jt.Var:
        """Returns all tokens after the last norm, [B, L, D], of images [B, 3, R, R].

        Raises ValueError for images of another size than the network was built for.
        """
        side = self.config.image_size
        if tuple(images.shape[1:]) != (3, side, side):
            raise ValueError(f"images {tuple(images.shape)}: built for [B, 3, {side}, {side}]")
        x = self.patch_embed(images)
        shape = (x.shape[0], 1, self.width)
        first = [getattr(self, name).broadcast(shape) for name in self.token_names()]
        return self.norm(self.blocks(jt.concat([*first, x], dim=1) + self.pos_embed))

    def features(self, images: jt.Var) -> jt.Var:
        """Returns the class token [B, D] of images [B, 3, R, R]."""
        return self.tokens(images)[:, 0]

    def execute(self, images: jt.Var) -> jt.Var:
        return self.head(self.features(images))

    def _initial_rule(self, name: str, shape: tuple[int, ...]) -> Rule:
        if name == "cls_token":
            return "normal", 1e-6
        if name.startswith("patch_embed."):  # torch's default for a convolution
            return "uniform", (3 * self.config.patch_size**2) ** -0.5
        if name in ("pos_embed", "dist_token") or len(shape) == 2:
            return "normal", 0.02  # timm truncates it at 2, a hundred deviations away
        return None if "norm" in name else ("uniform", 0.0)  # biases of linear layers


class DistilledTransformer(VisionTransformer):
    """A DeiT: a ViT with a second token and classifier, which learn from a teacher's answers.

    In training it returns (logits, distillation logits), each [B, C], in evaluation their mean. If
    `num_classes` is 0 it returns the features.
    """

    head_names = ("head", "head_dist")
    prefix_tokens = 2

    def token_names(self) -> tuple[str, ...]:
        return ("cls_token", "dist_token")

    def both_features(self, images: jt.Var) -> tuple[jt.Var, jt.Var]:
        """Returns the class token and the distillation token, each [B, D], of [B, 3, R, R]."""
        tokens = self.tokens(images)
        return tokens[:, 0], tokens[:, 1]

    def features(self, images: jt.Var) -> jt.Var:
        """Returns the mean of both tokens [B, D] of images [B, 3, R, R], as timm does."""
        first, second = self.both_features(images)
        return (first + second) / 2

    def classify(self, first: jt.Var, second: jt.Var) -> tuple[jt.Var, jt.Var]:
        """Returns (logits, distillation logits), each [B, C], of the two tokens [B, D]."""
        return self.head(first), self.head_dist(second)

    def mean_logits(self, images: jt.Var) -> jt.Var:
        """Returns the mean of both classifiers' logits [B, C], in training too."""
        first, second = self.classify(*self.both_features(images))
        return (first + second) / 2

    def execute(self, images: jt.Var) -> jt.Var | tuple[jt.Var, jt.Var]:
        if not self.num_classes:
            return self.features(images)
        if self.is_training():
            return self.classify(*self.both_features(images))
        return self.mean_logits(images)

"""CLIP's other image tower: a ResNet with three changes.

These are a stem of three convolutions, an average pool before every convolution that would have a
stride, and attention instead of the last pool. Source: Radford et al. 2021, section 2.4
(https://arxiv.org/abs/2103.00020). Shapes: B images, D channels, H x W cells, E embedding.
"""

import jittor as jt
from jittor import nn

from jclip.config import ClipConfig
from jclip.transformer import Linear
from kernels.attention import plain_attention

EXPANSION = 4  # ratio of a block's output channels to its inner channels


def average_pool(x: jt.Var, side: int) -> jt.Var:
    """Averages squares that tile the image: [B, D, H, W] -> [B, D, H/side, W/side]."""
    b, d, h, w = x.shape
    return x.reshape(b, d, h // side, side, w // side, side).mean(dims=(3, 5))


class Bottleneck(jt.Module):
    """A residual block: [B, channels, H, W] -> [B, 4*inner, H/stride, W/stride]."""

    def __init__(self, channels: int, inner: int, stride: int):
        self.stride, outputs = stride, EXPANSION * inner
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1 or channels != outputs:
            widen = nn.Conv2d(channels, outputs, 1, bias=False)
            self.downsample = nn.Sequential(widen, nn.BatchNorm2d(outputs))

    def execute(self, x: jt.Var) -> jt.Var:
        inside = nn.relu(self.bn1(self.conv1(x)))
        inside = nn.relu(self.bn2(self.conv2(inside)))
        if self.stride > 1:
            inside, x = average_pool(inside, self.stride), average_pool(x, self.stride)
        if self.downsample is not None:
            x = self.downsample(x)
        return nn.relu(self.bn3(self.conv3(inside)) + x)


class AttentionPool(jt.Module):
    """Attention pooling, whose only query is the mean of the cells: [B, D, H, W] -> [B, E]."""

    def __init__(self, side: int, width: int, heads: int, embed_dim: int):
        self.heads = heads
        self.positional_embedding = jt.zeros((side * side + 1, width))
        self.q_proj = Linear(width, width)
        self.k_proj = Linear(width, width)
        self.v_proj = Linear(width, width)
        self.c_proj = Linear(width, embed_dim)

    def execute(self, x: jt.Var) -> jt.Var:
        b, width = x.shape[:2]
        x = x.reshape(b, width, -1).permute(0, 2, 1)  # [B, H*W, D]
        x = jt.concat([x.mean(dim=1, keepdims=True), x], dim=1)  # [B, H*W+1, D]
        x = x + self.positional_embedding
        query, key, value = self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x)
        pooled = plain_attention(query, key, value, self.heads)
        return self.c_proj(pooled.reshape(b, width))


class ModifiedResNet(jt.Module):
    """Images [B, 3, R, R] -> features [B, E]; R is a multiple of 32.

    `vision_layers` of its sizes are the numbers of blocks of the four stages.
    """

    def __init__(self, config: ClipConfig):
        layers, width = config.vision_layers, config.vision_width
        assert isinstance(layers, tuple)  # these are the sizes of a ResNet
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, layers[0], stride=1)
        self.layer2 = _stage(4 * width, 2 * width, layers[1], stride=2)
        self.layer3 = _stage(8 * width, 4 * width, layers[2], stride=2)
        self.layer4 = _stage(16 * width, 8 * width, layers[3], stride=2)
        side, heads = config.image_resolution // 32, config.vision_heads
        self.attnpool = AttentionPool(side, 32 * width, heads, config.embed_dim)

    def execute(self, images: jt.Var) -> jt.Var:
        x = nn.relu(self.bn1(self.conv1(images)))  # [B, width/2, R/2, R/2]
        x = nn.relu(self.bn2(self.conv2(x)))
        x = nn.relu(self.bn3(self.conv3(x)))
        x = average_pool(x, 2)  # [B, width, R/4, R/4]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.attnpool(x)  # from [B, 32*width, R/32, R/32]


def _stage(channels: int, inner: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(channels, inner, stride)
    return nn.Sequential(
        first, *[Bottleneck(EXPANSION * inner, inner, 1) for _ in range(blocks - 1)]
    )

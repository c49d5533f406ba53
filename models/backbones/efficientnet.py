"""EfficientNet-B0 to B4 with torchvision's names, initial values and stochastic depth.

Source: Tan and Le 2019 (https://arxiv.org/abs/1905.11946), table 1 and section 5.
Shapes: B images, C classes, D channels, H x W cells, R pixels a side.
"""

import math

import jittor as jt
from jittor import nn

from models.backbones.layers import BatchNorm, DropPath, Rule, initialise

# The stages of B0: expansion, kernel, stride, input channels, output channels, blocks.
STAGES = (
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)
SIZES = {  # factor of the channels, factor of the blocks, dropout
    "efficientnet_b0": (1.0, 1.0, 0.2),
    "efficientnet_b1": (1.0, 1.1, 0.2),
    "efficientnet_b2": (1.1, 1.2, 0.3),
    "efficientnet_b3": (1.2, 1.4, 0.3),
    "efficientnet_b4": (1.4, 1.8, 0.4),
}


def round_channels(channels: float) -> int:
    """Rounds to the nearest multiple of 8, or up if that would lose over a tenth."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def convolution(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    active: bool = True,
) -> nn.Sequential:
    """Returns a convolution without bias, batch norm, and SiLU if `active`."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, BatchNorm(outputs), *([nn.SiLU()] if active else []))


class SqueezeExcitation(jt.Module):
    """Weights each channel by a function of all channels' means: [B, D, H, W] -> [B, D, H, W]."""

    def __init__(self, channels: int, squeezed: int):
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def execute(self, x: jt.Var) -> jt.Var:
        inside = nn.silu(self.fc1(x.mean(dims=(2, 3), keepdims=True)))  # [B, squeezed, 1, 1]
        return x * jt.sigmoid(self.fc2(inside))


class Block(jt.Module):
    """An inverted residual block: [B, inputs, H, W] -> [B, outputs, H/stride, W/stride]."""

    def __init__(
        self, expansion: int, kernel: int, stride: int, inputs: int, outputs: int, drop_path: float
    ):
        inside = round_channels(inputs * expansion)
        widen = [convolution(inputs, inside)] if inside != inputs else []
        self.block = nn.Sequential(
            *widen,
            convolution(inside, inside, kernel, stride, groups=inside),
            SqueezeExcitation(inside, max(1, inputs // 4)),
            convolution(inside, outputs, active=False),
        )
        self.residual = stride == 1 and inputs == outputs
        self.drop_path = DropPath(drop_path)

    def execute(self, x: jt.Var) -> jt.Var:
        return x + self.drop_path(self.block(x)) if self.residual else self.block(x)


class Stages(nn.Sequential):
    """All stages, then the mean of the cells: [B, 3, R, R] -> [B, width].

    torchvision's names have the stages under `features`, so that calling this attribute is the
    method `features` of the other networks.
    """

    def execute(self, images: jt.Var) -> jt.Var:
        return super().execute(images).mean(dims=(2, 3))


class EfficientNet(jt.Module):
    """Images [B, 3, R, R] -> logits [B, C], or features [B, width] if `num_classes` is 0.

    `dropout` is applied before the classifier (None: the variant's default). The probability of
    dropping a path grows with depth from 0 to `drop_path` in the last block.
    """

    head_names = ("classifier",)
    layer_names = ()
    block_names = tuple(f"features.{index}" for index in range(len(STAGES) + 2))
    last_names = ()

    def __init__(
        self, name: str, num_classes: int, dropout: float | None = None, drop_path: float = 0.2
    ):
        width_factor, depth_factor, default_dropout = SIZES[name]
        counts = [math.ceil(depth_factor * blocks) for *_, blocks in STAGES]
        first = round_channels(width_factor * STAGES[0][3])
        last = round_channels(width_factor * STAGES[-1][4])
        stages, done = [convolution(3, first, kernel=3, stride=2)], 0
        for (expansion, kernel, stride, inputs, outputs, _), count in zip(
            STAGES, counts, strict=True
        ):
            inputs = round_channels(width_factor * inputs)
            outputs = round_channels(width_factor * outputs)
            blocks = []
            for index in range(count):
                shape = (inputs, outputs) if index == 0 else (outputs, outputs)
                rate = drop_path * done / sum(counts)
                blocks.append(Block(expansion, kernel, 1 if index else stride, *shape, rate))
                done += 1
            stages.append(nn.Sequential(*blocks))
        self.width = 4 * last
        self.features = Stages(*stages, convolution(last, self.width))
        classifier = [nn.Linear(self.width, num_classes)] if num_classes else []
        rate = default_dropout if dropout is None else dropout
        self.classifier = nn.Sequential(nn.Dropout(rate, is_train=True), *classifier)
        initialise(self, _initial_rule)

    def execute(self, images: jt.Var) -> jt.Var:
        features = self.features(images)
        return self.classifier(features) if len(self.classifier) > 1 else features


def _initial_rule(name: str, shape: tuple[int, ...]) -> Rule:
    if len(shape) == 4:  # He's normal distribution, by the outputs; groups are not counted
        return "normal", math.sqrt(2 / (shape[0] * shape[2] * shape[3]))
    if name == "classifier.1.weight":
        return "uniform", shape[0] ** -0.5
    if name.endswith(("fc1.bias", "fc2.bias", "classifier.1.bias")):
        return "uniform", 0.0
    return None

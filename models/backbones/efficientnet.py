"""EfficientNet-B0 to B4 with torchvision's names, first values and dropped paths.

Source: Tan and Le 2019 (https://arxiv.org/abs/1905.11946), table 1 and section 5.
Shapes: B images, C classes, D channels, H x W cells, R pixels a side.
"""

import math

import jittor as jt
from jittor import nn

from models.backbones.layers import BatchNorm, DropPath, Rule, initialise

# Of B0: expansion, kernel, stride, channels in, channels out, blocks.
STAGES = (
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)
SIZES = {  # times as many channels, times as many blocks, dropout
    "efficientnet_b0": (1.0, 1.0, 0.2),
    "efficientnet_b1": (1.0, 1.1, 0.2),
    "efficientnet_b2": (1.1, 1.2, 0.3),
    "efficientnet_b3": (1.2, 1.4, 0.3),
    "efficientnet_b4": (1.4, 1.8, 0.4),
}


def rounded(channels: float) -> int:
    """The nearest multiple of 8, or the next one where that would lose over a tenth."""
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
    """A convolution without bias, batch norm, and SiLU if `active`."""
    conv = nn.Conv2d(
        inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
    )
    return nn.Sequential(conv, BatchNorm(outputs), *([nn.SiLU()] if active else []))


class SqueezeExcitation(jt.Module):
    """Weighs each channel by what all of them hold on average: [B, D, H, W] -> the same."""

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
        inside = rounded(inputs * expansion)
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
    """All stages in a row, then the mean cell: [B, 3, R, R] -> [B, width].

    torchvision's names have the stages under `features`, so that this is the method of that name.
    """

    def execute(self, images: jt.Var) -> jt.Var:
        return super().execute(images).mean(dims=(2, 3))


class EfficientNet(jt.Module):
    """Images [B, 3, R, R] -> logits [B, C]; features [B, width] where `num_classes` is 0.

    `dropout` stands before the classifier (None: the variant's own); `drop_path` is reached in the
    last block, growing from 0 with depth.
    """

    head_names = ("classifier",)
    layer_names = ()
    block_names = tuple(f"features.{place}" for place in range(len(STAGES) + 2))
    last_names = ()

    def __init__(
        self, name: str, num_classes: int, dropout: float | None = None, drop_path: float = 0.2
    ):
        wider, deeper, own = SIZES[name]
        counts = [math.ceil(deeper * blocks) for *_, blocks in STAGES]
        first, last = rounded(wider * STAGES[0][3]), rounded(wider * STAGES[-1][4])
        stages, done = [convolution(3, first, kernel=3, stride=2)], 0
        for (expansion, kernel, stride, inputs, outputs, _), count in zip(
            STAGES, counts, strict=True
        ):
            inputs, outputs, blocks = rounded(wider * inputs), rounded(wider * outputs), []
            for place in range(count):
                shape = (inputs, outputs) if place == 0 else (outputs, outputs)
                rate = drop_path * done / sum(counts)
                blocks.append(Block(expansion, kernel, 1 if place else stride, *shape, rate))
                done += 1
            stages.append(nn.Sequential(*blocks))
        self.width = 4 * last
        self.features = Stages(*stages, convolution(last, self.width))
        classifier = [nn.Linear(self.width, num_classes)] if num_classes else []
        self.classifier = nn.Sequential(
            nn.Dropout(own if dropout is None else dropout, is_train=True), *classifier
        )
        initialise(self, _first)

    def execute(self, images: jt.Var) -> jt.Var:
        features = self.features(images)
        return self.classifier(features) if len(self.classifier) > 1 else features


def _first(name: str, shape: tuple[int, ...]) -> Rule:
    if len(shape) == 4:  # He's normal, by the outputs; groups are not counted
        return "normal", math.sqrt(2 / (shape[0] * shape[2] * shape[3]))
    if name == "classifier.1.weight":
        return "uniform", shape[0] ** -0.5
    if name.endswith(("fc1.bias", "fc2.bias", "classifier.1.bias")):
        return "uniform", 0.0
    return None

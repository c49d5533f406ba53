"""ResNet-18, 50 and 101 on Jittor's classes, with torchvision's names and initial values.

Sources: He et al. 2015 (https://arxiv.org/abs/1512.03385), with the stride in the 3x3 convolution;
the small stem is that of SimCLR on CIFAR-10 (Chen et al. 2020, https://arxiv.org/abs/2002.05709,
appendix B.9). Shapes: B images, C classes, R pixels a side.
"""

import math

import jittor as jt
from jittor import nn
from jittor.models import resnet

from models.backbones.layers import BatchNorm, Rule, initialise

SIZES = {
    "resnet18": (resnet.BasicBlock, (2, 2, 2, 2)),
    "resnet50": (resnet.Bottleneck, (3, 4, 6, 3)),
    "resnet101": (resnet.Bottleneck, (3, 4, 23, 3)),
}
STEMS = ("imagenet", "small")


class ResNet(resnet.ResNet):
    """Images [B, 3, R, R] -> logits [B, C], or features [B, width] if `num_classes` is 0.

    `stem` is "imagenet" (7x7 of stride 2, then a pool: the last stage has R/32 x R/32 cells) or
    "small" (3x3 of stride 1 and no pool: R/8 x R/8 cells), which suits images of 32 pixels.
    """

    head_names = ("fc",)
    layer_names = ("layer1", "layer2", "layer3", "layer4")
    block_names = ()
    last_names = ()

    def __init__(self, name: str, num_classes: int, stem: str = "imagenet"):
        if stem not in STEMS:
            raise ValueError(f"stem {stem!r} is none of {', '.join(STEMS)}")
        block, layers = SIZES[name]
        super().__init__(block, layers, num_classes=max(1, num_classes), norm_layer=BatchNorm)
        self.width = 512 * block.expansion
        if stem == "small":
            self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            self.maxpool = nn.Identity()
        if num_classes == 0:
            self.fc = nn.Identity()
        initialise(self, self._initial_rule)

    def features(self, images: jt.Var) -> jt.Var:
        """Returns the mean of the last stage's cells, [B, width], of images [B, 3, R, R]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return x.mean(dims=(2, 3))

    def execute(self, images: jt.Var) -> jt.Var:
        return self.fc(self.features(images))

    def _initial_rule(self, name: str, shape: tuple[int, ...]) -> Rule:
        if len(shape) == 4:  # He's normal distribution, by the outputs
            return "normal", math.sqrt(2 / (shape[0] * shape[2] * shape[3]))
        return ("uniform", self.width**-0.5) if name.startswith("fc.") else None

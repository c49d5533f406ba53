"""A network pretrained on ImageNet, or a fresh one, fine-tuned on Caltech-101 (seed 002).

    python train.py caltech_finetune --network resnet18 \
        --weights resnet18-f37072fd.pth --unfreeze layer4

The best epoch is chosen by validation images; the test images are read once, at the end.
From scratch on 9,000 images of CIFAR-10 in 6 epochs: 69.15 % (`docs/results.md` has the command).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baselines.datasets.registry import DatasetName
from baselines.photo_training import PhotoConfig, photo_batches
from baselines.results import stored_result
from baselines.targets import classify
from baselines.trainer import Baseline
from models.backbones.freezing import trainable
from models.backbones.networks import build
from models.backbones.pretrained import load_pretrained
from weight_files import safe_load


@dataclass(frozen=True)
class Config(PhotoConfig):
    """Fine-tuning on photos."""

    dataset: DatasetName = "caltech101"
    """the data set"""
    out: Path = Path("runs/caltech_finetune")
    """folder for the split, metrics, weights and results"""
    classes: int = 101
    """of Caltech-101: 102 folders, 101 without the clutter, 100 without Faces_easy too"""
    network: str = "resnet18"
    """resnet18, resnet50, resnet101, efficientnet_b0 to b4, vit_tiny, deit_small, ..."""
    stem: str = "imagenet"
    """first layers of a ResNet: imagenet for photos, small for 32 to 64 pixels"""
    weights: Path | None = None
    """public weights under torchvision's or timm's names; none for random initialisation"""
    unfreeze: str = "layer4"
    """what is trained beside the classifier: layer4, layer3+layer4, last 6 blocks, head, all"""
    body_share: float = 0.1
    """learning rate of the body in shares of the classifier's"""
    image_size: int = 224
    """pixels a side that the network sees"""
    batch_size: int = 64
    """images a step"""
    lr: float = 1e-3
    """peak learning rate of AdamW for the classifier"""
    weight_decay: float = 1e-4
    """decay of the weights"""


def run(config: Config) -> None:
    """Fine-tunes, tests once and writes the result."""
    caltech = config.dataset == "caltech101"
    folders: dict[str, Any] = {"classes": config.classes} if caltech else {}
    job = Baseline(config, config.image_size, **folders)
    phase = job.run(config.network)
    if stored_result(phase):
        return
    train, val = job.training_sets()
    options = {"stem": config.stem} if config.network.startswith("resnet") else {}
    classes = len(train.class_names)
    network = job.build(
        lambda: build(config.network, classes, image_size=config.image_size, **options)
    )
    if config.weights:
        contents = safe_load(config.weights)
        load_pretrained(network, contents, config.weights, classes="replace")
    body, head = trainable(network, config.unfreeze)
    groups = [{"params": head, "share": 1.0}]
    if body:
        groups.append({"params": body, "share": config.body_share})
    job.learn(phase, network, groups, photo_batches(job, train), classify(network), val)
    job.report(phase, network, trained=sum(p.numel() for p in body + head))

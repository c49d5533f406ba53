"""Fine-tunes a network with ImageNet weights, or trains a fresh one, on Caltech-101.

    python train.py caltech_finetune --network resnet18 \
        --weights resnet18-f37072fd.pth --unfreeze layer4

Validation images choose the best epoch; the test images are read once, at the end.
Cost and result: ResNet-18 from scratch on 9,000 images of CIFAR-10 reaches 69.15 % after 6 epochs,
25 minutes on two cores (`docs/experiments/baselines.md` has the command).
Source: a public fine-tuning project; `docs/baselines.md` compares.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baselines.datasets.registry import DatasetName
from baselines.photo_training import PhotoConfig, photo_batches
from baselines.results import find_result
from baselines.trainer import Baseline
from models.backbones.freezing import set_trainable
from models.backbones.pretrained import load_pretrained
from weight_files import safe_load


@dataclass(frozen=True)
class Config(PhotoConfig):
    """Fine-tuning on photos."""

    dataset: DatasetName = "caltech101"
    """name of the data set"""
    out: Path = Path("runs/caltech_finetune")
    """folder for the split, metrics, weights and results"""
    classes: int = 101
    """classes of Caltech-101: 102 folders, 101 without clutter, 100 also without Faces_easy"""
    network: str = "resnet18"
    """network: resnet18, resnet50, resnet101, efficientnet_b0 to b4, vit_tiny, deit_small, ..."""
    stem: str = "imagenet"
    """first layers of a ResNet: imagenet for photos, small for 32 to 64 pixels"""
    weights: Path | None = None
    """public weights under torchvision's or timm's names; none for random initialization"""
    unfreeze: str = "layer4"
    """what is trained next to the classifier: layer4, layer3+layer4, last 6 blocks, head, all"""
    body_share: float = 0.1
    """learning rate of the body as a share of the classifier's"""
    image_size: int = 224
    """pixels per side of the network's input"""
    batch_size: int = 64
    """images per step"""
    lr: float = 1e-3
    """peak learning rate of AdamW for the classifier"""


def run(config: Config) -> None:
    """Fine-tunes, tests once and writes the result."""
    options: dict[str, Any] = {"classes": config.classes} if config.dataset == "caltech101" else {}
    baseline = Baseline(config, config.image_size, **options)
    run_log = baseline.open_run(config.network)
    if find_result(run_log):
        return
    train, val = baseline.training_sets()
    classes = len(train.class_names)
    network = baseline.build_network(config.network, classes, stem=config.stem)
    if config.weights:
        load_pretrained(network, safe_load(config.weights), config.weights, classes="replace")
    body, head = set_trainable(network, config.unfreeze)
    parameters = [{"params": head, "share": 1.0}]
    if body:
        parameters.append({"params": body, "share": config.body_share})
    batches = photo_batches(baseline, train)
    baseline.fit_classifier(run_log, network, batches, val, parameters=parameters)
    baseline.test(run_log, network, trained=sum(p.numel() for p in body + head))

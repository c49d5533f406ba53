"""SimCLR: an image encoder without labels, from two views of each image (seed 001).

    python train.py simclr --dataset cifar10 --root Dataset/cifar10 --epochs 100

Leaves `encoder.pkl`, under torchvision's names, in `out`; `linear_eval` says what it is worth.
The labels of the images are not used here but for the split and `knn_every`, which only reports.

On 9,000 CIFAR-10 images at 24 pixels, 20 epochs, 99 minutes on two cores: 53.15 % by linear
evaluation, where a random encoder gives 36.15 % (`docs/results.md` has the commands).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jittor as jt
from jittor import nn

from baselines.lars import Lars
from baselines.linear_probe import knn_scores
from baselines.nt_xent import nt_xent
from baselines.trainer import Baseline, BaselineConfig
from baselines.transforms.compose import simclr_transform
from engine import checkpoint
from engine.schedules import warm_cosine
from engine.trainer import evaluating, fit
from fewshot.evaluation.metrics import accuracy
from models.backbones.networks import build

OPTIMIZERS = {"sgd": jt.optim.SGD, "lars": Lars}


@dataclass(frozen=True)
class Config(BaselineConfig):
    """SimCLR."""

    out: Path = Path("runs/simclr")
    """folder for the split, metrics, weights and results"""
    network: str = "resnet18"
    """the encoder, a ResNet"""
    image_size: int = 32
    """pixels a side that the network sees"""
    stem: str = "small"
    """first layers: small for 32 pixels, imagenet for 224"""
    epochs: int = 100
    """passes over the training images"""
    batch_size: int = 512
    """images a step, of all processes together"""
    optimizer: Literal["sgd", "lars"] = "sgd"
    """SGD with momentum, or LARS, for batches of thousands"""
    lr: float = 0.6
    """peak learning rate"""
    final_lr: float = 1e-3
    """learning rate at the end of the cosine"""
    warmup: int = 0
    """epochs over which the rate rises to its peak"""
    weight_decay: float = 1e-4
    """decay of the weights"""
    temperature: float = 0.5
    """of NT-Xent"""
    projection: int = 128
    """width of the projection that the loss sees"""
    knn_every: int = 10
    """epochs between two looks at the nearest neighbours of the validation images, 0 for none"""

    def __post_init__(self):
        super().__post_init__()
        if self.pieces > 1 or self.ema:
            raise ValueError("NT-Xent compares whole batches: leave pieces at 1 and ema at 0")


class Projected(nn.Module):
    """An encoder and SimCLR's projection head: a hidden layer of the encoder's width."""

    def __init__(self, encoder: nn.Module, width: int):
        self.encoder = encoder
        inner = encoder.width
        self.projection = nn.Sequential(nn.Linear(inner, inner), nn.ReLU(), nn.Linear(inner, width))

    def execute(self, images: jt.Var) -> jt.Var:
        return self.projection(self.encoder(images))


def run(config: Config) -> None:
    """Trains the encoder and writes it."""
    job = Baseline(config, config.image_size)
    train, val = job.training_sets()
    module = job.build(
        lambda: Projected(build(config.network, 0, stem=config.stem), config.projection)
    )
    batches = job.batches(train, simclr_transform(config.image_size, job.norm), copies=2)
    schedule = warm_cosine(
        config.lr, config.epochs, len(batches), config.final_lr, warmup=config.warmup
    )
    optimizer = OPTIMIZERS[config.optimizer](
        module.parameters(), config.lr, momentum=0.9, weight_decay=config.weight_decay
    )

    def step(batch) -> dict[str, jt.Var]:
        (first, second), _, _ = batch
        projected = module(jt.concat([jt.array(first), jt.array(second)], dim=0))  # [2B,P]
        half = projected.shape[0] // 2
        return {"loss": nt_xent(projected[:half], projected[half:], config.temperature)}

    def neighbours(epoch: int) -> dict[str, float] | None:
        if not config.knn_every or epoch % config.knn_every and epoch != config.epochs:
            return None
        with evaluating(module):
            known, asked = (job.outputs(module.encoder, images) for images in (train, val))
        votes = knn_scores(known, train.labels, len(train.class_names), asked)
        return {"val knn accuracy": accuracy(votes.argmax(axis=1), val.labels)}

    fit(
        step,
        optimizer,
        batches,
        module=module,
        epochs=config.epochs,
        schedule=schedule,
        run=job.run("simclr"),
        seed=config.seed,
        after_epoch=neighbours,
    )
    checkpoint.save(config.out / "encoder.pkl", checkpoint.module_arrays(module.encoder))
    print(f"simclr: wrote {config.out / 'encoder.pkl'}")

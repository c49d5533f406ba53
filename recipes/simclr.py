"""Trains an image encoder without labels, from two views of each image: SimCLR.

    python train.py simclr --dataset cifar10 --root Dataset/cifar10 --epochs 100

Writes `encoder.pkl`, under torchvision's names, in `out`; the recipe `linear_eval` evaluates it.
Labels of images are used for the split and for the report of `knn_every` alone.
Cost and result: on 9,000 images of CIFAR-10 at 24 pixels, 20 epochs take 99 minutes on two cores;
linear evaluation then gives 53.15 %, and 36.15 % for a random encoder
(`docs/experiments/baselines.md` has the commands).
Source: Chen et al. 2020 (https://arxiv.org/abs/2002.05709).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jittor as jt
from jittor import nn

from baselines.linear_eval import knn_scores
from baselines.nt_xent import nt_xent
from baselines.optim import Lars
from baselines.trainer import Baseline, BaselineConfig
from baselines.transforms.compose import simclr_transform
from engine import checkpoint
from engine.schedules import warmup_cosine
from engine.trainer import evaluation_mode, fit
from fewshot.evaluation.metrics import accuracy
from models.backbones.networks import build_network

OPTIMIZERS = {"sgd": jt.optim.SGD, "lars": Lars}


@dataclass(frozen=True)
class Config(BaselineConfig):
    """SimCLR."""

    out: Path = Path("runs/simclr")
    """folder for the split, metrics, weights and results"""
    network: str = "resnet18"
    """network of the encoder, a ResNet"""
    image_size: int = 32
    """pixels per side of the network's input"""
    stem: str = "small"
    """first layers of the ResNet: small for 32 pixels, imagenet for 224"""
    epochs: int = 100
    """passes over the training images"""
    batch_size: int = 512
    """images per step, of all processes together"""
    optimizer: Literal["sgd", "lars"] = "sgd"
    """optimizer: SGD with momentum, or LARS, for batches of thousands"""
    lr: float = 0.6
    """peak learning rate"""
    final_lr: float = 1e-3
    """learning rate at the end of the cosine schedule"""
    warmup: int = 0
    """epochs in which the learning rate rises to its peak"""
    temperature: float = 0.5
    """temperature of the NT-Xent loss"""
    projection: int = 128
    """width of the projection that the loss compares"""
    knn_every: int = 10
    """epochs between two reports of nearest neighbours on validation images, 0 for none"""

    def __post_init__(self):
        super().__post_init__()
        if self.grad_accum > 1 or self.ema:
            raise ValueError("NT-Xent compares whole batches: leave grad_accum at 1 and ema at 0")


class ProjectedEncoder(nn.Module):
    """An encoder and SimCLR's projection head: a hidden layer of the encoder's width."""

    def __init__(self, encoder: nn.Module, width: int):
        self.encoder = encoder
        inner = encoder.width
        self.projection = nn.Sequential(nn.Linear(inner, inner), nn.ReLU(), nn.Linear(inner, width))

    def execute(self, images: jt.Var) -> jt.Var:
        """images[B,3,R,R] -> projections[B,E]."""
        return self.projection(self.encoder(images))


def run(config: Config) -> None:
    """Trains the encoder and writes it."""
    baseline = Baseline(config, config.image_size)
    train, val = baseline.training_sets()
    module = baseline.build(
        lambda: ProjectedEncoder(
            build_network(config.network, 0, stem=config.stem), config.projection
        )
    )
    transform = simclr_transform(config.image_size, baseline.norm)
    batches = baseline.batches(train, transform, transform)
    schedule = warmup_cosine(
        config.lr, config.epochs, len(batches), config.final_lr, warmup=config.warmup
    )
    optimizer = OPTIMIZERS[config.optimizer](
        module.parameters(), config.lr, momentum=0.9, weight_decay=config.weight_decay
    )

    def step(batch) -> dict[str, jt.Var]:
        (first, second), _, _ = batch
        projections = module(jt.concat([jt.array(first), jt.array(second)], dim=0))  # [2B,E]
        half = projections.shape[0] // 2
        return {"loss": nt_xent(projections[:half], projections[half:], config.temperature)}

    def report_neighbours(epoch: int) -> dict[str, float] | None:
        is_due = config.knn_every and (epoch % config.knn_every == 0 or epoch == config.epochs)
        if not is_due:
            return None
        with evaluation_mode(module):
            features = baseline.predict(module.encoder, train)
            queries = baseline.predict(module.encoder, val)
        votes = knn_scores(features, train.labels, len(train.class_names), queries)
        return {"val knn accuracy": accuracy(votes.argmax(axis=1), val.labels)}

    fit(
        step,
        optimizer,
        batches,
        module=module,
        epochs=config.epochs,
        schedule=schedule,
        run=baseline.open_run("simclr"),
        seed=config.seed,
        after_epoch=report_neighbours,
    )
    path = config.out / "encoder.pkl"
    checkpoint.save(path, checkpoint.module_arrays(module.encoder))
    print(f"simclr: wrote {path}")

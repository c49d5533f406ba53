"""Evaluates a frozen encoder by linear layers on its features: the linear protocol.

    python train.py linear_eval --source self_supervised --encoder runs/simclr/encoder.pkl

The result also has the accuracy of nearest neighbours and of scikit-learn's logistic regression.
Source `scratch` evaluates the encoder's random weights, as a floor to compare with.
Cost and result: SimCLR's encoder reaches 53.15 % on CIFAR-10 and a random one 36.15 %, in 2 minutes
on two cores (`docs/experiments/baselines.md` has the commands).
Source: SimCLR's protocol (Chen et al. 2020, appendix B.6).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from baselines.linear_eval import evaluate_encoder
from baselines.results import find_result
from baselines.trainer import Baseline, BaselineConfig
from models.backbones.pretrained import load_pretrained
from weight_files import safe_load


@dataclass(frozen=True)
class Config(BaselineConfig):
    """Linear evaluation of an encoder."""

    out: Path = Path("runs/linear_eval")
    """folder for the split, metrics, weights and results"""
    source: Literal["self_supervised", "imagenet", "scratch"] = "self_supervised"
    """origin of the encoder's weights; scratch needs no file"""
    encoder: Path = Path("runs/simclr/encoder.pkl")
    """weights of the encoder: those of `simclr`, or a public file under torchvision's names"""
    network: str = "resnet18"
    """network of the encoder"""
    stem: str = "small"
    """first layers of a ResNet: small for 32 pixels, imagenet for 224"""
    image_size: int = 32
    """pixels per side of the network's input"""
    layers: int = 1
    """number of linear layers on the features, 1 or 2"""
    epochs: int = 50
    """passes over the features"""
    batch_size: int = 256
    """features per step"""


def run(config: Config) -> None:
    """Evaluates an encoder and writes the result."""
    baseline = Baseline(config, config.image_size)
    run_log = baseline.open_run(config.source)
    if find_result(run_log):
        return
    train, val = baseline.training_sets()
    encoder = baseline.build_network(config.network, 0, stem=config.stem)
    if config.source != "scratch":
        load_pretrained(encoder, safe_load(config.encoder), config.encoder, classes="replace")
    lr, layers = config.lr, config.layers
    evaluate_encoder(baseline, run_log, encoder, encoder, train, val, lr=lr, layers=layers)

"""The linear classification protocol: what a frozen encoder is worth (seed 001).

    python train.py linear_eval --source self_supervised --encoder runs/simclr/encoder.pkl

Beside the linear layers stand nearest neighbours and scikit-learn's logistic regression. Source
`scratch` is the encoder's fresh weights: what no training gives. `docs/results.md` has both for
SimCLR on CIFAR-10: 53.15 and 36.15 %.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from baselines.linear_protocol import linear_protocol
from baselines.results import stored_result
from baselines.trainer import Baseline, BaselineConfig
from models.backbones.networks import build
from models.backbones.pretrained import load_pretrained
from weight_files import safe_load


@dataclass(frozen=True)
class Config(BaselineConfig):
    """Linear evaluation."""

    out: Path = Path("runs/linear_eval")
    """folder for the split, metrics, weights and results"""
    source: Literal["self_supervised", "imagenet", "scratch"] = "self_supervised"
    """where the encoder's weights come from; scratch needs no file"""
    encoder: Path = Path("runs/simclr/encoder.pkl")
    """weights of the encoder: of `simclr`, or a public file under torchvision's names"""
    network: str = "resnet18"
    """the encoder"""
    stem: str = "small"
    """first layers of a ResNet: small for 32 pixels, imagenet for 224"""
    image_size: int = 32
    """pixels a side that the network sees"""
    layers: int = 1
    """linear layers on the features, 1 or 2"""
    epochs: int = 50
    """passes over the features"""
    batch_size: int = 256
    """features a step"""
    lr: float = 1e-3
    """peak learning rate of AdamW"""
    weight_decay: float = 1e-4
    """decay of the weights"""


def run(config: Config) -> None:
    """Evaluates an encoder and writes the result."""
    job = Baseline(config, config.image_size)
    phase = job.run(config.source)
    if stored_result(phase):
        return
    sets = job.training_sets()
    options = {"stem": config.stem} if config.network.startswith("resnet") else {}
    encoder = job.build(lambda: build(config.network, 0, image_size=config.image_size, **options))
    if config.source != "scratch":
        contents = safe_load(config.encoder)
        load_pretrained(encoder, contents, config.encoder, classes="replace")
    linear_protocol(job, phase, encoder, encoder, sets, lr=config.lr, layers=config.layers)

"""CLIP's image tower with one linear layer, four ways (seed 000).

    python train.py clip_cifar --mode linear_probe --weights ViT-B-32.pkl

zero_shot    class vectors from prompts/, no training
linear_probe the linear layer on features that are computed once; scikit-learn's beside it
fine_tune    all of the tower, from CLIP's weights
scratch      the same architecture, from fresh ones

A small CLIP on 10,000 images of CIFAR-10: 50.30, 49.80, 49.75 and 38.85 % in this order
(`docs/results.md` has the commands).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import jittor as jt
from jittor import nn

import jclip
from baselines.datasets.registry import DatasetName
from baselines.linear_protocol import linear_protocol
from baselines.photo_training import PhotoConfig, photo_batches
from baselines.results import stored_result, write_result
from baselines.targets import classify
from baselines.trainer import ROWS, Baseline
from baselines.transforms.compose import CLIP_NORM
from data.label_space import LabelSpace
from engine.device import in_fp32
from engine.run_log import Run
from engine.trainer import predict
from fewshot.text.class_texts import TextConfig, class_vectors, sentence_weights, texts_of
from models.heads.zero_shot import text_logits


@dataclass(frozen=True)
class Config(PhotoConfig):
    """CLIP on CIFAR-100."""

    mode: Literal["zero_shot", "linear_probe", "fine_tune", "scratch"] = "linear_probe"
    """what is trained"""
    dataset: DatasetName = "cifar100"
    """the data set"""
    out: Path = Path("runs/clip_cifar")
    """folder for the split, metrics, weights and results"""
    weights: str = "ViT-B-32.pkl"
    """CLIP weight file, or the name of an official model"""
    text: TextConfig = field(default_factory=TextConfig)
    epochs: int = 20
    """passes over the training images"""
    batch_size: int = 32
    """images a step"""
    lr: float = 1e-5
    """peak learning rate of AdamW for the tower"""
    head_lr: float = 1e-3
    """peak learning rate of the linear layer"""
    scale: tuple[float, float] = (0.6, 1.0)
    """share of the image's area that a training crop takes, least and most"""
    weight_decay: float = 1e-4
    """decay of the weights"""


class Classifier(nn.Module):
    """CLIP's image tower and one linear layer."""

    def __init__(self, model: jclip.CLIP, classes: int):
        self.visual = model.visual
        self.head = nn.Linear(model.config.embed_dim, classes)

    def execute(self, images: jt.Var) -> jt.Var:
        return self.head(self.visual(images))


def run(config: Config) -> None:
    """Trains what the mode says, tests once and writes the result."""
    model, _ = jclip.load(config.weights)
    job = Baseline(config, model.config.image_resolution, CLIP_NORM)
    phase = job.run(config.mode)
    if stored_result(phase):
        return
    if config.mode == "zero_shot":
        zero_shot(job, model, phase)
        return
    train, val = job.training_sets()
    if config.mode == "linear_probe":
        linear_protocol(job, phase, model, model.encode_image, (train, val), lr=config.head_lr)
        return
    classes, fresh = len(train.class_names), config.mode == "scratch"
    network = job.build(
        lambda: Classifier(jclip.CLIP(model.config, model.activation) if fresh else model, classes)
    )
    groups = [
        {"params": network.visual.parameters(), "share": 1.0},
        {"params": network.head.parameters(), "share": config.head_lr / config.lr},
    ]
    job.learn(phase, network, groups, photo_batches(job, train), classify(network), val)
    job.report(phase, network)


def zero_shot(job: Baseline[Config], model: jclip.CLIP, phase: Run) -> None:
    """Cosines of normalised image features and class vectors from prompts/."""
    test = job.test_set()
    texts = texts_of(LabelSpace.all_base(test.class_names), job.config.text)
    every = [text for group in texts.sentences for text in group]
    tokens = jclip.tokenize(every, context_length=model.config.context_length)
    with in_fp32():  # as every class text
        vectors = predict(model.encode_text, tokens, batch=ROWS[job.device])
    text = class_vectors(vectors, sentence_weights(texts, vectors, job.config.text))
    logits = text_logits(job.outputs(model.encode_image, test), text, 1.0)
    extra = {"prompts": texts.files}
    write_result(phase, logits, test.labels, test.class_names, extra, job.sources)

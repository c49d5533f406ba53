"""Classifies with CLIP's image tower and one linear layer, in four modes.

    python train.py clip_cifar --mode linear_probe --weights ViT-B-32.pkl

zero_shot     class vectors from prompts/, no training
linear_probe  trains the linear layer on features that are computed once
fine_tune     trains all of the tower, from CLIP's weights
scratch       trains the same architecture, from random weights

Cost and result: a small CLIP on 10,000 images of CIFAR-10 reaches 50.30, 49.80, 49.75 and 38.85 %
in this order, each in less than 2 minutes on two cores (`docs/experiments/baselines.md` has the
commands). Source: a public CLIP project on CIFAR-100; `docs/baselines.md` compares.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import jittor as jt
from jittor import nn

import jclip
from baselines.datasets.registry import DatasetName
from baselines.linear_eval import evaluate_encoder
from baselines.photo_training import PhotoConfig, photo_batches
from baselines.results import find_result, write_result
from baselines.trainer import EVAL_ROWS, Baseline
from baselines.transforms.compose import CLIP_NORM
from data.label_space import LabelSpace
from engine.device import without_bf16
from engine.predictor import predict
from engine.run_log import Run
from fewshot.text.class_texts import TextConfig, compute_class_vectors, load_texts, weigh_sentences
from models.heads.zero_shot import text_logits


@dataclass(frozen=True)
class Config(PhotoConfig):
    """CLIP's image tower on CIFAR-100."""

    mode: Literal["zero_shot", "linear_probe", "fine_tune", "scratch"] = "linear_probe"
    """what is trained: nothing, the linear layer, or the tower from CLIP's or random weights"""
    dataset: DatasetName = "cifar100"
    """name of the data set"""
    out: Path = Path("runs/clip_cifar")
    """folder for the split, metrics, weights and results"""
    weights: str = "ViT-B-32.pkl"
    """CLIP weight file, or the name of an official model"""
    text: TextConfig = field(default_factory=TextConfig)
    epochs: int = 20
    """passes over the training images"""
    batch_size: int = 32
    """images per step"""
    lr: float = 1e-5
    """peak learning rate of AdamW for the tower"""
    head_lr: float = 1e-3
    """peak learning rate of the linear layer"""
    scale: tuple[float, float] = (0.6, 1.0)
    """least and largest share of an image's area that a training crop takes"""


class ClipClassifier(nn.Module):
    """CLIP's image tower and one linear layer."""

    def __init__(self, model: jclip.CLIP, classes: int):
        self.visual = model.visual
        self.head = nn.Linear(model.config.embed_dim, classes)

    def execute(self, images: jt.Var) -> jt.Var:
        """images[B,3,R,R] -> logits[B,C]."""
        return self.head(self.visual(images))


def run(config: Config) -> None:
    """Trains what the mode says, tests once and writes the result."""
    model, _ = jclip.load(config.weights)
    baseline = Baseline(config, model.config.image_resolution, CLIP_NORM)
    run_log = baseline.open_run(config.mode)
    if find_result(run_log):
        return
    if config.mode == "zero_shot":
        classify_zero_shot(baseline, model, run_log)
        return
    train, val = baseline.training_sets()
    if config.mode == "linear_probe":
        encode = model.encode_image
        evaluate_encoder(baseline, run_log, model, encode, train, val, lr=config.head_lr)
        return

    def build() -> ClipClassifier:
        is_fresh = config.mode == "scratch"
        clip = jclip.CLIP(model.config, model.activation) if is_fresh else model
        return ClipClassifier(clip, len(train.class_names))

    network = baseline.build(build)
    parameters = [
        {"params": network.visual.parameters(), "share": 1.0},
        {"params": network.head.parameters(), "share": config.head_lr / config.lr},
    ]
    batches = photo_batches(baseline, train)
    baseline.fit_classifier(run_log, network, batches, val, parameters=parameters)
    baseline.test(run_log, network)


def classify_zero_shot(baseline: Baseline[Config], model: jclip.CLIP, run: Run) -> None:
    """Writes the result of the cosines of image features and class vectors from prompts/."""
    test = baseline.test_set()
    texts = load_texts(LabelSpace.all_base(test.class_names), baseline.config.text)
    sentences = [sentence for group in texts.sentences for sentence in group]
    tokens = jclip.tokenize(sentences, context_length=model.config.context_length)
    with without_bf16():  # class texts are always fp32
        vectors = predict(model.encode_text, tokens, batch=EVAL_ROWS[baseline.device])
    text = compute_class_vectors(vectors, weigh_sentences(texts, vectors, baseline.config.text))
    logits = text_logits(baseline.predict(model.encode_image, test), text, 1.0)
    extra = {"prompts": texts.files}
    write_result(run, logits, test.labels, test.class_names, extra, baseline.sources)
